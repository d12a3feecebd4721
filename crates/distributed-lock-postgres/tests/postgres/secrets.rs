//! The password of a connection string is shown nowhere.

use std::error::Error;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use distributed_lock_core::prelude::*;
use distributed_lock_postgres::PostgresLockProvider;
use distributed_lock_testkit::proxy::FaultProxy;
use distributed_lock_testkit::servers::{PASSWORD, PostgresServer};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

use crate::SECOND;

const SECRET: &str = "hunter2-and-more";

/// Everything that an error shows.
fn shown(error: &LockError) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(" {error} {error:?} {error:#?}"));
        source = error.source();
    }
    text
}

fn assert_hidden(text: &str) {
    for secret in [SECRET, PASSWORD] {
        assert!(!text.contains(secret), "{text}");
    }
}

/// Writes down every span, event and field.
#[derive(Clone, Default)]
struct Everything(Arc<Mutex<String>>);

impl Visit for Everything {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0.lock().unwrap(), "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        attributes.record(&mut self.clone());
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut self.clone());
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
        self.0.lock().unwrap().push('\n');
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

async fn build_error(connection_string: &str) -> LockError {
    let builder = PostgresLockProvider::builder().connection_string(connection_string);
    assert_hidden(&format!("{builder:?} {builder:#?}"));
    builder.operation_timeout(SECOND).build().await.unwrap_err()
}

// On one thread, to which the traces of everything belong.
#[tokio::test]
async fn row_46_no_error_debug_or_trace_shows_the_password() {
    let everything = Everything::default();
    let _traced = tracing::subscriber::set_default(everything.clone());
    tracing::info!(canary = "is traced");
    let server = PostgresServer::start(&[]);
    let port = server.port();
    let wrong = [
        format!("postgres://postgres:{SECRET}@127.0.0.1:{port}/postgres"),
        format!("host=127.0.0.1 port={port} user=postgres password={SECRET}"),
        // Nobody is there.
        format!("postgres://postgres:{SECRET}@127.0.0.1:1/postgres"),
        format!("postgres://postgres:{SECRET}@unknown.invalid/postgres?sslmode=disable"),
        format!("postgres://postgres:{PASSWORD}@127.0.0.1:{port}/no-such-database"),
        format!("postgres://postgres:{PASSWORD}@127.0.0.1:{port}/postgres?sslmode=require"),
        // Not to be understood.
        format!("postgres://postgres:{SECRET}@127.0.0.1:port/postgres"),
        format!("postgres://postgres:{SECRET}@127.0.0.1/postgres?sslmode={SECRET}"),
        format!("postgres://postgres:{SECRET}@127.0.0.1/postgres?unknown={SECRET}"),
        format!("postgres:/{SECRET}@127.0.0.1"),
        format!("password={SECRET} host"),
        format!("password={SECRET} port={SECRET} host=127.0.0.1"),
        format!("password='{SECRET}"),
    ];
    for connection_string in wrong {
        let error = build_error(&connection_string).await;
        println!("{error}: {}", error.source().map_or_else(String::new, ToString::to_string));
        assert_hidden(&shown(&error));
    }

    let proxy = FaultProxy::start(server.address());
    let url = server.url_by(proxy.port());
    let builder = PostgresLockProvider::builder().connection_string(url);
    let here = builder.operation_timeout(SECOND).build().await.unwrap();
    let lock = here.create_lock("name");
    let handle = lock.acquire(None).await.unwrap();
    assert_hidden(&format!("{here:?} {here:#?} {lock:#?} {handle:#?}"));
    proxy.refuse();
    proxy.reset_all();
    handle.lost_token().cancelled().await;
    let errors = [handle.release().await.unwrap_err(), lock.try_acquire().await.unwrap_err()];
    for error in errors {
        assert_hidden(&shown(&error));
    }
    for (name, error) in here.shutdown().await {
        assert_hidden(&format!("{name} {}", shown(&error)));
    }
    let traced = everything.0.lock().unwrap().clone();
    assert!(traced.contains("is traced"), "{traced}");
    assert_hidden(&traced);
}
