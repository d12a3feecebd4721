//! What the server sees, asked on a session of the test's own.

use std::time::Duration;

use distributed_lock_testkit::servers::PostgresServer;
use tokio::time::Instant;
use tokio_postgres::{Client, NoTls};

use crate::MS;

/// Advisory locks that somebody has.
pub(crate) const HELD: &str =
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted";

/// Places in the queues of advisory locks.
pub(crate) const QUEUED: &str =
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";

/// Sessions of providers.
pub(crate) const SESSIONS: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'distributed-lock'";

/// The backends that have an advisory lock.
pub(crate) const HOLDERS: &str =
    "SELECT pid::int8 FROM pg_locks WHERE locktype = 'advisory' AND granted LIMIT 1";

/// A session beside those under test.
pub(crate) struct Observer(Client);

impl Observer {
    pub(crate) async fn of(server: &PostgresServer) -> Self {
        Self::by(&server.url()).await
    }

    pub(crate) async fn by(connection_string: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(connection_string, NoTls).await.unwrap();
        // Its end shows in the next question.
        tokio::spawn(async move { drop(connection.await) });
        Self(client)
    }

    /// The one number that a query returns.
    pub(crate) async fn number(&self, query: &str) -> i64 {
        self.0.query_one(query, &[]).await.unwrap().get(0)
    }

    pub(crate) async fn run(&self, statements: &str) {
        self.0.batch_execute(statements).await.unwrap();
    }

    /// Runs statements that may fail.
    pub(crate) async fn try_run(&self, statements: &str) -> Result<(), tokio_postgres::Error> {
        self.0.batch_execute(statements).await
    }

    /// Asks until the answer is so, and returns how long that took.
    pub(crate) async fn until(&self, query: &str, wanted: i64, limit: Duration) -> Duration {
        let began = Instant::now();
        loop {
            let answer = self.number(query).await;
            let took = began.elapsed();
            if answer == wanted {
                return took;
            }
            assert!(took <= limit, "{query}: {answer}, not {wanted}, after {took:?}");
            tokio::time::sleep(5 * MS).await;
        }
    }
}
