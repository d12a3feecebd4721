//! The conformance suite on PostgreSQL.

use std::sync::OnceLock;
use std::time::Duration;

use distributed_lock_postgres::{
    PostgresAdvisoryLockKey, PostgresLockProvider, PostgresLockProviderBuilder,
};
use distributed_lock_testkit::servers::PostgresServer;
use distributed_lock_testkit::{Backend, Loses, conformance};

conformance!(session: Direct { use_transaction: false },
    with readers_writer, with semaphore, with fencing, with loss);
conformance!(transaction: Direct { use_transaction: true },
    with readers_writer, with semaphore);

/// The server itself.
struct Direct {
    use_transaction: bool,
}

/// Room for the many connections of locks held by transactions.
fn server() -> &'static PostgresServer {
    static SERVER: OnceLock<PostgresServer> = OnceLock::new();
    SERVER.get_or_init(|| PostgresServer::start(&[("max_connections", "500")]))
}

impl Direct {
    fn builder(&self) -> PostgresLockProviderBuilder {
        PostgresLockProvider::builder()
            .connection_string(server().url())
            .use_transaction(self.use_transaction)
            .max_sessions(if self.use_transaction { 200 } else { 32 })
    }
}

impl Backend for Direct {
    type Provider = PostgresLockProvider;

    async fn connect(&self) -> PostgresLockProvider {
        // Many cases share the machine.
        self.builder().operation_timeout(self.operation_timeout()).build().await.unwrap()
    }

    fn operation_timeout(&self) -> Duration {
        Duration::from_secs(2)
    }
}

/// By an administrator who ends the holder's session.
impl Loses for Direct {
    async fn lose(&self, name: &str, _native_key: &str) {
        let (class, object, form) = match PostgresAdvisoryLockKey::from_name(name, true).unwrap() {
            PostgresAdvisoryLockKey::Single(key) => (key >> 32, key & 0xffff_ffff, 1),
            PostgresAdvisoryLockKey::Pair(high, low) => (i64::from(high), i64::from(low), 2),
        };
        let holder = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted \
             AND classid = {} AND objid = {} AND objsubid = {form}",
            class & 0xffff_ffff,
            object & 0xffff_ffff,
        );
        let ended = server().psql(&holder).unwrap();
        assert_eq!(ended.trim(), "t");
    }
}
