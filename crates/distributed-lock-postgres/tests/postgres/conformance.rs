//! The conformance suite on PostgreSQL: the server itself and through a pooler, by sessions and by
//! transactions.

use std::sync::OnceLock;
use std::time::Duration;

use distributed_lock_core::AttemptToken;
use distributed_lock_core::error::LockResult;
use distributed_lock_postgres::{PostgresAdvisoryLockKey, PostgresLockProvider};
use distributed_lock_testkit::servers::{Pgbouncer, PoolMode, PostgresServer};
use distributed_lock_testkit::{Backend, Loses, conformance};

conformance!(sessions: Postgres { pooled: false, use_transaction: false },
    with readers_writer, with semaphore, with fencing, with loss);
conformance!(transactions: Postgres { pooled: false, use_transaction: true },
    with readers_writer, with semaphore);
conformance!(pooled_sessions: Postgres { pooled: true, use_transaction: false },
    with readers_writer, with semaphore, with fencing, with loss);
conformance!(pooled_transactions: Postgres { pooled: true, use_transaction: true },
    with readers_writer, with semaphore);

/// One server for all cases, with room for locks that need a connection each.
fn server() -> &'static PostgresServer {
    static SERVER: OnceLock<PostgresServer> = OnceLock::new();
    SERVER.get_or_init(|| PostgresServer::start(&[("max_connections", "600")]))
}

fn pooler(mode: PoolMode) -> &'static Pgbouncer {
    static SESSION: OnceLock<Pgbouncer> = OnceLock::new();
    static TRANSACTION: OnceLock<Pgbouncer> = OnceLock::new();
    let pooler = match mode {
        PoolMode::Session => &SESSION,
        PoolMode::Transaction => &TRANSACTION,
    };
    let settings = [("default_pool_size", "250"), ("max_client_conn", "1000")];
    pooler.get_or_init(|| Pgbouncer::start_with(server(), mode, &settings))
}

struct Postgres {
    pooled: bool,
    use_transaction: bool,
}

impl Backend for Postgres {
    type Provider = PostgresLockProvider;

    async fn connect(&self) -> PostgresLockProvider {
        self.try_connect().await.unwrap()
    }

    async fn try_connect(&self) -> LockResult<PostgresLockProvider> {
        let url = match (self.pooled, self.use_transaction) {
            (false, _) => server().url(),
            (true, false) => pooler(PoolMode::Session).url(),
            (true, true) => pooler(PoolMode::Transaction).url(),
        };
        PostgresLockProvider::builder()
            .connection_string(url)
            .use_transaction(self.use_transaction)
            .max_sessions(if self.use_transaction { 200 } else { 32 })
            .operation_timeout(self.operation_timeout())
            .build()
            .await
    }

    /// Explicit keys are numbers, however their digits are written.
    fn spellings(&self) -> Option<[String; 2]> {
        let digits = format!("ab{}", &AttemptToken::random().unwrap().to_string()[..14]);
        Some([digits.to_uppercase(), digits])
    }

    fn operation_timeout(&self) -> Duration {
        Duration::from_secs(2)
    }
}

/// By an administrator who ends the holder's session.
impl Loses for Postgres {
    async fn lose(&self, name: &str, _native_key: &str) {
        let (class, object, form) = match PostgresAdvisoryLockKey::from_name(name, true).unwrap() {
            PostgresAdvisoryLockKey::Single(key) => (key >> 32, key, 1),
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
