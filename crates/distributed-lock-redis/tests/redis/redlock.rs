//! The conformance suite over several servers.

use std::sync::OnceLock;
use std::time::Duration;

use distributed_lock_redis::RedisLockProvider;
use distributed_lock_testkit::servers::RedisServer;
use distributed_lock_testkit::{Backend, Loses, conformance};

conformance!(three: Servers::all(3, Duration::from_secs(30)),
    with readers_writer, with semaphore, with fencing);
conformance!(five: Servers::all(5, Duration::from_secs(30)),
    with readers_writer, with semaphore, with fencing);
conformance!(three_1s: Servers::all(3, Duration::from_secs(1)),
    with readers_writer, with semaphore, with fencing, with leases, with loss);

/// The first so many of five servers for all cases; they use names of their own.
struct Servers {
    count: usize,
    expiry: Duration,
}

fn servers() -> &'static [RedisServer] {
    static SHARED: OnceLock<Vec<RedisServer>> = OnceLock::new();
    SHARED.get_or_init(|| (0..5).map(|_| RedisServer::start(&[])).collect())
}

impl Servers {
    fn all(count: usize, expiry: Duration) -> Self {
        Self { count, expiry }
    }
}

impl Backend for Servers {
    type Provider = RedisLockProvider;

    async fn connect(&self) -> RedisLockProvider {
        let builder =
            RedisLockProvider::builder().expiry(self.expiry).restart_guard(Duration::ZERO);
        let of_them = servers()[..self.count].iter();
        let builder = of_them.fold(builder, |builder, server| builder.add_server(server.url()));
        builder.build().await.unwrap()
    }
}

/// By a stranger who deletes the key on a majority.
impl Loses for Servers {
    async fn lose(&self, _name: &str, native_key: &str) {
        for server in &servers()[..self.count / 2 + 1] {
            assert_eq!(server.cli(&["DEL", native_key]), "1");
        }
    }
}
