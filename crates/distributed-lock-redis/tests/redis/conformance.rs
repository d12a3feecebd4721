//! The conformance suite on Redis: both protocols, long and short leases.

use std::time::Duration;

use distributed_lock_core::error::LockResult;
use distributed_lock_redis::{RedisLockProvider, RedisLockProviderBuilder, RedisProtocol};
use distributed_lock_testkit::servers::RedisServer;
use distributed_lock_testkit::{Backend, HoldLimit, Limits, Loses, conformance};

const SHORT: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(200);

conformance!(resp3: Redis::new(RedisProtocol::Resp3, Duration::from_secs(30)),
    with readers_writer, with semaphore, with fencing);
conformance!(resp2: Redis::new(RedisProtocol::Resp2, Duration::from_secs(30)),
    with readers_writer, with semaphore, with fencing);
conformance!(resp3_1s: Redis::new(RedisProtocol::Resp3, SHORT),
    with readers_writer, with semaphore, with fencing, with leases, with limits, with loss);
conformance!(resp2_1s: Redis::new(RedisProtocol::Resp2, SHORT),
    with readers_writer, with semaphore, with fencing, with leases, with limits, with loss);
conformance!(resp3_200ms: Redis::new(RedisProtocol::Resp3, SHORTEST),
    with readers_writer, with semaphore, with fencing, with leases, with loss);
conformance!(resp2_200ms: Redis::new(RedisProtocol::Resp2, SHORTEST),
    with readers_writer, with semaphore, with fencing, with leases, with loss);

/// One server for all cases; they use names of their own.
struct Redis {
    protocol: RedisProtocol,
    expiry: Duration,
}

impl Redis {
    fn new(protocol: RedisProtocol, expiry: Duration) -> Self {
        Self { protocol, expiry }
    }

    fn builder(&self) -> RedisLockProviderBuilder {
        let builder = RedisLockProvider::builder().add_server(RedisServer::shared().url());
        builder.protocol(self.protocol).expiry(self.expiry)
    }
}

impl Backend for Redis {
    type Provider = RedisLockProvider;

    async fn connect(&self) -> RedisLockProvider {
        self.try_connect().await.unwrap()
    }

    async fn try_connect(&self) -> LockResult<RedisLockProvider> {
        self.builder().build().await
    }
}

impl Limits for Redis {
    async fn connect_limited(&self, limit: HoldLimit) -> RedisLockProvider {
        let builder = match limit {
            HoldLimit::MaxHold(most) => self.builder().max_hold(most),
            HoldLimit::NoExtension => self.builder().auto_extend(false),
        };
        builder.build().await.unwrap()
    }
}

/// By a stranger who deletes the key.
impl Loses for Redis {
    async fn lose(&self, _name: &str, native_key: &str) {
        assert_eq!(RedisServer::shared().cli(&["DEL", native_key]), "1");
    }
}
