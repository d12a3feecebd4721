//! What is wrong with a server is told once, with its remedy.

use std::sync::{Arc, Mutex};

use distributed_lock_core::prelude::*;
use distributed_lock_redis::{RedisLockProvider, RedisLockProviderBuilder};
use distributed_lock_testkit::servers::RedisServer;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

use crate::{SECOND, held, order};

/// Collects warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, _field: &Field, value: &dyn std::fmt::Debug) {
        *self.0 += &format!("{value:?}");
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = String::new();
        event.record(&mut Text(&mut text));
        self.0.lock().unwrap().push(text);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// What a provider on this server warns of while it is built, and used.
fn warnings(url: &str, works: bool) -> Vec<String> {
    warnings_of(RedisLockProvider::builder().add_server(url).expiry(SECOND), works)
}

pub(crate) fn warnings_of(builder: RedisLockProviderBuilder, works: bool) -> Vec<String> {
    let told = Warnings::default();
    tracing::subscriber::with_default(told.clone(), || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let provider = builder.build().await.unwrap();
            for _ in 0..2 {
                if works {
                    held(&provider, "health").await.release().await.unwrap();
                }
            }
        });
    });
    std::mem::take(&mut told.0.lock().unwrap())
}

fn only(warnings: &[String], words: [&str; 2]) {
    let [warning] = warnings else { panic!("one warning of {words:?} was expected: {warnings:?}") };
    assert!(words.iter().all(|word| warning.contains(word)), "{warning}");
}

#[test]
fn what_breaks_promises_is_told_once_with_its_remedy() {
    let kept = ["--appendonly", "yes"];
    let server = RedisServer::start(&kept);
    let url = server.url();
    assert_eq!(warnings(&url, true), Vec::<String>::new(), "a good server");

    let transient = RedisServer::start(&[]);
    only(&warnings(&transient.url(), true), ["keeps nothing on disk", "appendonly yes"]);

    order(&server, &["CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru"]);
    only(&warnings(&url, true), ["evicts keys", "noeviction"]);
    order(&server, &["CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction"]);

    order(
        &server,
        &["ACL", "SETUSER", "app", "on", ">x", "~*", "&*", "+@all", "-publish", "-pubsub"],
    );
    let app = url.replace("redis://", "redis://app:x@");
    only(&warnings(&app, true), ["publish", "ACL SETUSER"]);
    order(&server, &["ACL", "SETUSER", "app", "+@all", "-evalsha", "-eval"]);
    only(&warnings(&app, false), ["scripts", "ACL SETUSER"]);

    order(&server, &["REPLICAOF", "127.0.0.1", "1"]);
    only(&warnings(&url, false), ["replica", "primary"]);
}
