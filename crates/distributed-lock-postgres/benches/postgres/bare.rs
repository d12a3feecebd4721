//! The same requests by a client that does nothing else.

use tokio_postgres::{Client, NoTls, Statement};

/// One connection and its prepared statements.
pub(crate) struct Bare {
    client: Client,
    lock: Statement,
    try_lock: Statement,
    unlock: Statement,
    waiting: Statement,
}

impl Bare {
    pub(crate) async fn connect(url: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        let prepare = async |words| client.prepare(words).await.unwrap();
        let lock = prepare("SELECT pg_advisory_lock($1::int8)").await;
        let try_lock = prepare("SELECT pg_try_advisory_lock($1::int8)").await;
        let unlock = prepare("SELECT pg_advisory_unlock($1::int8)").await;
        let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        let waiting = prepare(waiting).await;
        Self { client, lock, try_lock, unlock, waiting }
    }

    pub(crate) async fn lock(&self, key: i64) {
        self.client.query_one(&self.lock, &[&key]).await.unwrap();
    }

    pub(crate) async fn try_lock(&self, key: i64) {
        let row = self.client.query_one(&self.try_lock, &[&key]).await.unwrap();
        assert!(row.get::<_, bool>(0));
    }

    pub(crate) async fn unlock(&self, key: i64) {
        let row = self.client.query_one(&self.unlock, &[&key]).await.unwrap();
        assert!(row.get::<_, bool>(0));
    }

    /// How many wait for any lock.
    pub(crate) async fn waiting(&self) -> i64 {
        self.client.query_one(&self.waiting, &[]).await.unwrap().get(0)
    }
}
