//! The same work by the bare client: what the library is held against.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client};

/// Deletes a key if it has this value.
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

#[derive(Clone)]
pub(crate) struct Bare {
    connection: MultiplexedConnection,
    release: String,
}

impl Bare {
    pub(crate) async fn connect(url: &str) -> Self {
        let client = Client::open(format!("{url}/?protocol=resp3")).unwrap();
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let mut connection =
            client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
        let load = redis::cmd("SCRIPT").arg("LOAD").arg(RELEASE).to_owned();
        let release = load.query_async(&mut connection).await.unwrap();
        Self { connection, release }
    }

    /// `SET NX PX`, and compare-and-delete by `EVALSHA`.
    pub(crate) async fn lock_and_unlock(&mut self, key: &str) {
        let mut set = redis::cmd("SET");
        set.arg(key).arg("0123456789abcdef0123456789abcdef").arg("NX").arg("PX").arg(30_000);
        let _: () = set.query_async(&mut self.connection).await.unwrap();
        let mut release = redis::cmd("EVALSHA");
        release.arg(&self.release).arg(1).arg(key).arg("0123456789abcdef0123456789abcdef");
        let released: u32 = release.query_async(&mut self.connection).await.unwrap();
        assert_eq!(released, 1);
    }

    pub(crate) async fn ping(&mut self) {
        let _: () = redis::cmd("PING").query_async(&mut self.connection).await.unwrap();
    }
}
