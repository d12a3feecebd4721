//! Options of the builder and of the connection string that contradict each other.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use distributed_lock_core::prelude::*;
use distributed_lock_postgres::{PostgresLockProvider, PostgresLockProviderBuilder};
use distributed_lock_testkit::servers::PostgresServer;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

use crate::{SECOND, builder};

/// Nothing listens there: what is refused is refused before that is noticed.
const NOWHERE: &str = "postgres://u:p@127.0.0.1:1/d";

const SOCKET: &str = "host=/nowhere user=u password=p dbname=d";

fn to(connection_string: &str) -> PostgresLockProviderBuilder {
    PostgresLockProvider::builder().connection_string(connection_string)
}

#[tokio::test]
async fn row_62_options_that_contradict_each_other_are_refused_and_named() {
    let with = |query: &str| to(&format!("{NOWHERE}?{query}"));
    let socket = |more: &str| to(&format!("{SOCKET} {more}"));
    let cases = [
        (with("application_name=one").application_name("other"), "application_name"),
        (to(NOWHERE).use_transaction(true).max_locks_per_session(5), "max_locks_per_session"),
        (to(NOWHERE).use_transaction(true).max_sessions(4).max_held(5), "max_held"),
        (to(NOWHERE).max_sessions(2).max_locks_per_session(3).max_held(7), "max_held"),
        (to(NOWHERE).max_sessions(4).max_waiting_sessions(5), "max_waiting_sessions"),
        (with("keepalives=0&keepalives_idle=3"), "keepalives_idle"),
        (with("keepalives=0&keepalives_interval=3"), "keepalives_interval"),
        (with("keepalives=0&keepalives_retries=3"), "keepalives_retries"),
        (with("load_balance_hosts=random"), "load_balance_hosts"),
        (to("host=db hostaddr=127.0.0.1 port=1 load_balance_hosts=random"), "load_balance_hosts"),
        (socket("load_balance_hosts=random"), "load_balance_hosts"),
        (with("target_session_attrs=read-only"), "target_session_attrs"),
        (with("sslmode=disable&channel_binding=require"), "channel_binding"),
        (with("sslmode=disable&sslrootcert=/nowhere"), "sslrootcert"),
        (socket("sslrootcert=system"), "sslrootcert"),
        (socket("channel_binding=require"), "channel_binding"),
        (socket("keepalives_idle=3"), "keepalives_idle"),
        (socket("tcp_user_timeout=3"), "tcp_user_timeout"),
        (with("host=other"), "host"),
        (with("port=2"), "port"),
        (with("user=other"), "user"),
        (with("password=other"), "password"),
        (with("dbname=other"), "dbname"),
    ];
    for (number, (builder, named)) in cases.into_iter().enumerate() {
        match builder.build().await.map(drop) {
            Err(LockError::Config(reason)) => {
                println!("{reason}");
                assert!(reason.contains(named), "{number}, {named}: {reason}");
            }
            other => panic!("{number}, {named}: {other:?}"),
        }
    }
}

/// What is no contradiction works, defaults among others.
#[tokio::test]
async fn row_62_options_that_go_together_are_honoured() {
    let server = PostgresServer::shared();
    let url = |query: &str| to(&format!("{}?{query}", server.url()));
    let builders = [
        builder(server).max_sessions(4),
        builder(server).max_sessions(2),
        builder(server).use_transaction(true).max_locks_per_session(1),
        builder(server).use_transaction(true).max_sessions(4).max_held(4),
        url("application_name=one").application_name("one"),
        url("keepalives=0"),
        url("keepalives=1&keepalives_idle=3"),
        url("load_balance_hosts=disable"),
        url("target_session_attrs=any"),
        to(&server.url().replace("127.0.0.1", "localhost")),
        to(&format!(
            "{}?load_balance_hosts=random",
            server.url().replace("127.0.0.1", "localhost")
        )),
    ];
    for (number, builder) in builders.into_iter().enumerate() {
        let provider = builder.build().await.unwrap_or_else(|error| panic!("{number}: {error:?}"));
        provider.acquire_lock("together", None).await.unwrap().release().await.unwrap();
    }
}

/// What was warned of.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<String>>);

impl Visit for Warnings {
    fn record_debug(&mut self, _: &Field, value: &dyn Debug) {
        self.0.lock().unwrap().push_str(&format!("{value:?}\n"));
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn row_62_what_is_overridden_is_warned_of() {
    let cases = [
        (to(&format!("{SOCKET} sslmode=verify-full")), "unix sockets"),
        (to(&format!("{NOWHERE}?connect_timeout=5")).operation_timeout(SECOND), "connect_timeout"),
        (to("postgres://u:p@127.0.0.1:1"), "database"),
    ];
    for (builder, named) in cases {
        let warnings = Warnings::default();
        let subscribed = tracing::subscriber::set_default(warnings.clone());
        let built = builder.build().await;
        drop(subscribed);
        assert!(matches!(built, Err(LockError::Connection(_))), "{built:?}");
        let warned = warnings.0.lock().unwrap();
        assert!(warned.contains(named), "{named}: {warned:?}");
    }
}
