//! The conformance suite over several servers: all up, some down, some silent, one slow.

use std::sync::OnceLock;
use std::time::Duration;

use distributed_lock_core::error::LockResult;
use distributed_lock_redis::{RedisLockProvider, RedisLockProviderBuilder};
use distributed_lock_testkit::proxy::{FaultProxy, Way};
use distributed_lock_testkit::servers::RedisServer;
use distributed_lock_testkit::{Backend, HoldLimit, Limits, Loses, conformance};

use crate::group::{self, Group};
use crate::{MS, SECOND};

conformance!(three: Servers::all_up(3, SECOND * 30),
    with readers_writer, with semaphore, with fencing);
conformance!(three_1s: Servers::all_up(3, SECOND),
    with readers_writer, with semaphore, with fencing, with leases, with limits, with loss);
conformance!(concrete five: Servers::all_up(5, SECOND * 30),
    with readers_writer, with semaphore, with fencing);
conformance!(concrete five_two_killed: Servers::two_killed(),
    with readers_writer, with semaphore, with fencing);
conformance!(concrete five_two_stopped: Servers::two_stopped(),
    with readers_writer, with semaphore, with fencing);
conformance!(concrete three_one_slow: Servers::one_slow(),
    with readers_writer, with semaphore, with fencing);

/// One group for all cases of a kind; they use names of their own.
struct Servers {
    urls: &'static [String],
    expiry: Duration,
}

fn five() -> &'static Group {
    static SHARED: OnceLock<Group> = OnceLock::new();
    SHARED.get_or_init(|| Group::start(5))
}

fn three() -> &'static Group {
    static SHARED: OnceLock<Group> = OnceLock::new();
    SHARED.get_or_init(|| Group::start(3))
}

fn without_two(strike: fn(&RedisServer)) -> Vec<String> {
    // Ended with the process.
    let group = Box::leak(Box::new(Group::start(5)));
    group.0[1..3].iter().for_each(strike);
    urls(group)
}

fn urls(group: &Group) -> Vec<String> {
    group.0.iter().map(RedisServer::url).collect()
}

impl Servers {
    fn all_up(count: usize, expiry: Duration) -> Self {
        static FIVE: OnceLock<Vec<String>> = OnceLock::new();
        static THREE: OnceLock<Vec<String>> = OnceLock::new();
        let urls = match count {
            3 => THREE.get_or_init(|| urls(three())),
            _ => FIVE.get_or_init(|| urls(five())),
        };
        Self { urls, expiry }
    }

    fn two_killed() -> Self {
        static SHARED: OnceLock<Vec<String>> = OnceLock::new();
        let urls = SHARED.get_or_init(|| without_two(RedisServer::kill));
        Self { urls, expiry: SECOND * 30 }
    }

    fn two_stopped() -> Self {
        static SHARED: OnceLock<Vec<String>> = OnceLock::new();
        let urls = SHARED.get_or_init(|| without_two(RedisServer::pause));
        // A provider that is built waits for them once, an eighth of this.
        Self { urls, expiry: SECOND * 3 }
    }

    /// 50 ms there and 50 ms back.
    fn one_slow() -> Self {
        static SHARED: OnceLock<(FaultProxy, Vec<String>)> = OnceLock::new();
        let (_, urls) = SHARED.get_or_init(|| {
            let slow = &three().0[1];
            let proxy = FaultProxy::start(slow.address());
            for way in [Way::ToServer, Way::ToClient] {
                proxy.delay(way, MS * 50, Duration::ZERO);
            }
            let mut urls = urls(three());
            urls[1] = slow.url_by(proxy.port());
            (proxy, urls)
        });
        Self { urls, expiry: SECOND * 30 }
    }

    fn builder(&self) -> RedisLockProviderBuilder {
        group::of(self.urls).expiry(self.expiry)
    }
}

impl Backend for Servers {
    type Provider = RedisLockProvider;

    async fn connect(&self) -> RedisLockProvider {
        self.try_connect().await.unwrap()
    }

    async fn try_connect(&self) -> LockResult<RedisLockProvider> {
        self.builder().build().await
    }
}

impl Limits for Servers {
    async fn connect_limited(&self, limit: HoldLimit) -> RedisLockProvider {
        let builder = match limit {
            HoldLimit::MaxHold(most) => self.builder().max_hold(most),
            HoldLimit::NoExtension => self.builder().auto_extend(false),
        };
        builder.build().await.unwrap()
    }
}

/// By a stranger who deletes the key everywhere.
impl Loses for Servers {
    async fn lose(&self, _name: &str, native_key: &str) {
        // At the same time: until a majority has lost it, it is not lost.
        let gone = std::thread::scope(|scope| {
            let delete = |server: &'static RedisServer| {
                scope.spawn(move || server.cli(&["DEL", native_key]) == "1")
            };
            let deleting: Vec<_> = three().0.iter().map(delete).collect();
            deleting.into_iter().map(|gone| gone.join().unwrap()).filter(|gone| *gone).count()
        });
        // The last may be given back by the holder, who has been told.
        assert!(gone >= 2, "{gone} servers had it");
    }
}
