//! Two providers on one or several servers, whose keys are damaged, and what must hold in every state.

use std::time::Duration;

use distributed_lock_core::error::LockResult;
use distributed_lock_core::prelude::*;
use distributed_lock_core::{FencingToken, Mode};
use distributed_lock_redis::{DamagedKey, RedisLockProvider, RedisLockProviderBuilder, redis};
use distributed_lock_testkit::servers::RedisServer;
use redis::aio::MultiplexedConnection;

use super::states::{Deed, deed};
use crate::MS;

/// Long beside what hundreds of states at a time take on a busy machine.
pub(super) const LEASE: Duration = Duration::from_secs(6);

/// Longer than any lease and any tombstone of the tests, shorter than the run.
const HEALED_WITHIN: Duration = Duration::from_secs(30);

pub(super) struct Stage {
    pub(super) here: RedisLockProvider,
    pub(super) there: RedisLockProvider,
    servers: Vec<(String, MultiplexedConnection)>,
    channel: String,
}

impl Stage {
    pub(super) async fn start(servers: &[RedisServer], builder: &RedisLockProviderBuilder) -> Self {
        let provider = async || builder.clone().expiry(LEASE).build().await.unwrap();
        let (here, there) = (provider().await, provider().await);
        let mut connections = Vec::new();
        // These tests load the machine, so a reply takes as long as it takes.
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        for server in servers {
            let client = redis::Client::open(server.url()).unwrap();
            let connection = client.get_multiplexed_async_connection_with_config(&config);
            let connection = connection.await.unwrap();
            connections.push((server.address().to_string(), connection));
        }
        // Both have waited once, so their channels have subscribers.
        let held = here.try_acquire_lock("channel").await.unwrap().unwrap();
        assert!(there.acquire_lock("channel", Some(50 * MS)).await.is_err());
        held.release().await.unwrap();
        let mut channels = redis::cmd("PUBSUB");
        let connection = &mut connections[0].1;
        let channels: Vec<String> = channels.arg("CHANNELS").query_async(connection).await.unwrap();
        let channel = channels.into_iter().next().unwrap();
        Self { here, there, servers: connections, channel }
    }

    /// Damages the keys of a name on the first so many servers.
    pub(super) async fn damage(&self, count: usize, name: &str, deed: &Deed) {
        for (_, connection) in &self.servers[..count] {
            let mut connection = connection.clone();
            let (seconds, _): (u64, u64) =
                redis::cmd("TIME").query_async(&mut connection).await.unwrap();
            let fill = |word: &String| {
                let word = word
                    .replace("{now}", &format!("{seconds}000"))
                    .replace("{channel}", &self.channel);
                match word.strip_prefix('{').and_then(|word| word.strip_suffix('}')) {
                    Some(kind) => key_of(&self.here, name, kind),
                    None => word,
                }
            };
            let mut command = redis::Cmd::new();
            for word in deed {
                command.arg(fill(word));
            }
            command.query_async::<redis::Value>(&mut connection).await.unwrap();
        }
    }

    /// Takes a free lock on every server: a majority may be quicker than the rest.
    pub(super) async fn held_on_all(&self, name: &str, mode: Mode, key: &str) -> Held {
        let key = key_of(&self.here, name, key);
        for _ in 0..20 {
            let held = acquire(&self.here, name, mode, Some(HEALED_WITHIN)).await.unwrap();
            for _ in 0..100 {
                let mut count = 0;
                for (_, connection) in &self.servers {
                    let (mut exists, mut connection) = (redis::cmd("EXISTS"), connection.clone());
                    let found: usize = exists.arg(&key).query_async(&mut connection).await.unwrap();
                    count += found;
                }
                if count == self.servers.len() {
                    return held;
                }
                tokio::time::sleep(5 * MS).await;
            }
            held.release().await.unwrap();
        }
        panic!("{name} is never held on all servers");
    }

    /// Removes a key on the first so many servers.
    pub(super) async fn remove(&self, count: usize, name: &str, key: &str) {
        self.damage(count, name, &deed(&["DEL", key])).await;
    }

    /// Does what an error says is the remedy.
    async fn heal(&self, error: &LockError, what: &str) {
        let damaged = remedy(error, what);
        let server = self.servers.iter().find(|(address, _)| address == damaged.server());
        let mut connection = server.unwrap_or_else(|| panic!("{what}: {damaged}")).1.clone();
        redis::cmd("DEL").arg(damaged.key()).query_async::<()>(&mut connection).await.unwrap();
    }

    /// Takes the lock and draws its token; an error must name a key and its server, whose removal is the
    /// remedy.
    async fn acquire(
        &self,
        by: &RedisLockProvider,
        (name, mode): (&str, Mode),
        what: &str,
        last: &mut FencingToken,
    ) -> Held {
        // One at the key that holds and one at the counter, on each.
        for _ in 0..=2 * self.servers.len() {
            let held = match acquire(by, name, mode, Some(HEALED_WITHIN)).await {
                Ok(held) => held,
                Err(error) => {
                    self.heal(&error, what).await;
                    continue;
                }
            };
            match held.token().await {
                Ok(token) => {
                    assert!(token > *last, "{what}: {token:?} after {last:?}");
                    *last = token;
                    return held;
                }
                Err(error) => {
                    self.heal(&error, what).await;
                    // Every resource has forgotten them: that is part of the remedy.
                    *last = FencingToken(0);
                }
            }
            held.release().await.unwrap();
        }
        panic!("{what}: the remedies do not help");
    }

    /// Exclusion, order of tokens and release, all in the damaged state.
    pub(super) async fn is_usable(&self, name: &str, mode: Mode, what: &str) {
        let mut last = FencingToken(0);
        for by in [&self.here, &self.there, &self.here] {
            let held = self.acquire(by, (name, mode), what, &mut last).await;
            let rival = if mode == Mode::Shared { Mode::Exclusive } else { mode };
            match acquire(&self.there, name, rival, Some(Duration::ZERO)).await {
                Ok(_) => panic!("{what}: two holders"),
                Err(LockError::Timeout(_)) => {}
                Err(error) => {
                    remedy(&error, what);
                }
            }
            held.release().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        }
    }
}

fn remedy<'a>(error: &'a LockError, what: &str) -> &'a DamagedKey {
    let Some(damaged) = error.find_source::<DamagedKey>() else { panic!("{what}: {error:?}") };
    let text = damaged.to_string();
    let names_all =
        [damaged.key(), damaged.server(), "Remedy: "].iter().all(|it| text.contains(it));
    assert!(names_all, "{what}: {damaged}");
    damaged
}

pub(super) enum Held {
    Writer(distributed_lock_redis::RedisLockHandle),
    Reader(distributed_lock_redis::RedisReadLockHandle),
    Permit(distributed_lock_redis::RedisSemaphoreHandle),
}

impl Held {
    pub(super) async fn token(&self) -> LockResult<FencingToken> {
        match self {
            Self::Writer(held) => held.fencing_token().await,
            Self::Reader(held) => held.fencing_token().await,
            Self::Permit(held) => held.fencing_token().await,
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        match self {
            Self::Writer(held) => held.is_lost(),
            Self::Reader(held) => held.is_lost(),
            Self::Permit(held) => held.is_lost(),
        }
    }

    pub(super) async fn release(self) -> LockResult<()> {
        match self {
            Self::Writer(held) => held.release().await,
            Self::Reader(held) => held.release().await,
            Self::Permit(held) => held.release().await,
        }
    }
}

pub(super) async fn acquire(
    by: &RedisLockProvider,
    name: &str,
    mode: Mode,
    wait: Option<Duration>,
) -> LockResult<Held> {
    Ok(match mode {
        Mode::Exclusive => Held::Writer(by.acquire_lock(name, wait).await?),
        Mode::Shared => Held::Reader(by.create_reader_writer_lock(name).acquire_read(wait).await?),
        Mode::Permit { max } => Held::Permit(by.create_semaphore(name, max).acquire(wait).await?),
    })
}

/// The keys of a name, found by what an ordinary use leaves or by their documented form.
fn key_of(provider: &RedisLockProvider, name: &str, kind: &str) -> String {
    let mutex = provider.native_key(name).unwrap();
    if kind == "mutex" {
        return mutex;
    }
    assert!(!mutex.contains(['{', '}']), "{mutex} is no hash tag");
    use sha2::Digest as _;
    let hash: String = sha2::Sha256::digest(mutex.as_bytes())[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("distributed-lock/1:{{{mutex}}}:{kind}:{hash}")
}
