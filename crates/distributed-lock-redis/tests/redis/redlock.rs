//! The conformance suite over several servers.

use std::sync::OnceLock;
use std::time::Duration;

use distributed_lock_redis::{RedisLockProvider, RedisLockProviderBuilder};
use distributed_lock_testkit::servers::RedisServer;
use distributed_lock_testkit::{Backend, Loses, conformance};

conformance!(three: Servers::all(3, Duration::from_secs(30)),
    with readers_writer, with semaphore, with fencing);
conformance!(five: Servers::all(5, Duration::from_secs(30)),
    with readers_writer, with semaphore, with fencing);
conformance!(two_of_five_killed: TwoOfFive::killed());
conformance!(two_of_five_stopped: TwoOfFive::stopped());
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
        // At the same time: until the second is gone, it is not lost.
        std::thread::scope(|scope| {
            for server in &servers()[..self.count / 2 + 1] {
                scope.spawn(|| assert_eq!(server.cli(&["DEL", native_key]), "1"));
            }
        });
    }
}

/// Five servers that have known each other, of which two are down or hang.
struct TwoOfFive(&'static [RedisServer]);

impl TwoOfFive {
    fn killed() -> Self {
        static SHARED: OnceLock<Vec<RedisServer>> = OnceLock::new();
        Self(SHARED.get_or_init(|| without_two(RedisServer::kill)))
    }

    fn stopped() -> Self {
        static SHARED: OnceLock<Vec<RedisServer>> = OnceLock::new();
        Self(SHARED.get_or_init(|| without_two(RedisServer::pause)))
    }
}

fn without_two(strike: fn(&RedisServer)) -> Vec<RedisServer> {
    let servers: Vec<_> = (0..5).map(|_| RedisServer::start(&[])).collect();
    // They get to know each other while all are there.
    let urls: Vec<_> = servers.iter().map(RedisServer::url).collect();
    let first = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { drop(group(&urls).build().await.unwrap()) });
    });
    first.join().unwrap();
    servers[1..3].iter().for_each(strike);
    servers
}

fn group(urls: &[String]) -> RedisLockProviderBuilder {
    let builder = RedisLockProvider::builder();
    urls.iter().fold(builder, |builder, url| builder.add_server(url))
}

impl Backend for TwoOfFive {
    type Provider = RedisLockProvider;

    async fn connect(&self) -> RedisLockProvider {
        let urls: Vec<_> = self.0.iter().map(RedisServer::url).collect();
        group(&urls).build().await.unwrap()
    }
}
