//! Several private servers that know each other.

use std::time::Duration;

use distributed_lock_redis::{RedisLockProvider, RedisLockProviderBuilder};
use distributed_lock_testkit::servers::RedisServer;

use crate::SECOND;

/// Independent servers, started together.
pub(crate) struct Group(pub(crate) Vec<RedisServer>);

impl Group {
    /// A new group, in which every server has been told of all.
    pub(crate) fn start(count: usize) -> Self {
        Self::of((0..count).map(|_| RedisServer::start(&[])).collect())
    }

    /// The same with servers that are there.
    pub(crate) fn of(servers: Vec<RedisServer>) -> Self {
        let group = Self(servers);
        while group.0.iter().any(|server| !group.is_known_to(server)) {
            // A thread has no runtime yet.
            let meet = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                drop(runtime.unwrap().block_on(group.builder().build()).unwrap());
            };
            std::thread::scope(|scope| scope.spawn(meet).join().unwrap());
        }
        group
    }

    fn is_known_to(&self, server: &RedisServer) -> bool {
        let known = server.cli(&["HLEN", "distributed-lock/1:{members}"]);
        known.parse() == Ok(self.0.len())
    }

    pub(crate) fn builder(&self) -> RedisLockProviderBuilder {
        of(&self.0.iter().map(RedisServer::url).collect::<Vec<_>>())
    }

    /// Leases of one second; a restarted server counts again after 30 s.
    pub(crate) async fn provider(&self) -> RedisLockProvider {
        self.leased(SECOND).await
    }

    pub(crate) async fn leased(&self, expiry: Duration) -> RedisLockProvider {
        let builder = self.builder().expiry(expiry).restart_guard(SECOND * 30);
        builder.build().await.unwrap()
    }

    /// All URLs, as the environment of another process takes them.
    pub(crate) fn urls(&self) -> String {
        self.0.iter().map(RedisServer::url).collect::<Vec<_>>().join(",")
    }

    /// On how many servers there is a key.
    pub(crate) fn count(&self, key: &str) -> usize {
        self.0.iter().filter(|server| server.cli(&["EXISTS", key]) == "1").count()
    }
}

pub(crate) fn of(urls: &[String]) -> RedisLockProviderBuilder {
    urls.iter().fold(RedisLockProvider::builder(), |builder, url| builder.add_server(url))
}
