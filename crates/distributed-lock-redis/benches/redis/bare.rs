//! The same work by the bare client: what the library is held against.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, PushInfo, PushKind};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;

/// Deletes a key if it has this value.
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// The library's own script for a lock that nobody waits for.
const RELEASE_ALONE: &str = include_str!("../../src/scripts/release_alone.lua");

/// Gives a key to the other, and tells it so.
const HAND_OVER: &str = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
    redis.call('SET', KEYS[1], ARGV[2], 'PX', 3000) \
    redis.call('PUBLISH', ARGV[3], ARGV[2]) return 1";

/// Makes sure that the key was given, and keeps it.
const MAKE_SURE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], 30000) end return 0";

const CHANNEL: &str = "bare";
const OTHER: &str = "fedcba9876543210fedcba9876543210";
const OWNER: &str = "0123456789abcdef0123456789abcdef";

#[derive(Clone)]
pub(crate) struct Bare {
    connection: MultiplexedConnection,
    release: String,
    release_alone: String,
    hand_over: String,
    make_sure: String,
}

impl Bare {
    pub(crate) async fn connect(url: &str) -> Self {
        Self::with(url, AsyncConnectionConfig::new()).await
    }

    /// With the messages to it.
    pub(crate) async fn listening(url: &str) -> (Self, UnboundedReceiver<PushInfo>) {
        let (sender, pushes) = unbounded_channel();
        let config = AsyncConnectionConfig::new().set_push_sender(move |push: PushInfo| {
            if push.kind == PushKind::Message {
                let _ = sender.send(push);
            }
            Ok::<(), ()>(())
        });
        let mut bare = Self::with(url, config).await;
        bare.connection.subscribe(CHANNEL).await.unwrap();
        (bare, pushes)
    }

    async fn with(url: &str, config: AsyncConnectionConfig) -> Self {
        let client = Client::open(format!("{url}/?protocol=resp3")).unwrap();
        let config = config.set_response_timeout(None);
        let mut connection =
            client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
        let mut hashes = Vec::new();
        for script in [RELEASE, RELEASE_ALONE, HAND_OVER, MAKE_SURE] {
            let load = redis::cmd("SCRIPT").arg("LOAD").arg(script).to_owned();
            hashes.push(load.query_async(&mut connection).await.unwrap());
        }
        let [release, release_alone, hand_over, make_sure] = hashes.try_into().unwrap();
        Self { connection, release, release_alone, hand_over, make_sure }
    }

    /// `SET NX PX`, and compare-and-delete by `EVALSHA`.
    pub(crate) async fn lock_and_unlock(&mut self, key: &str) {
        self.lock(key).await;
        self.unlock(key).await;
    }

    /// The same on several servers at once, of which a majority is waited for.
    pub(crate) async fn lock_and_unlock_most(servers: &[Self]) {
        let most = servers.len() / 2 + 1;
        let mut locked: JoinSet<_> = JoinSet::new();
        for mut server in servers.iter().cloned() {
            locked.spawn(async move { server.lock("bare").await });
        }
        for _ in 0..most {
            locked.join_next().await.unwrap().unwrap();
        }
        locked.detach_all();
        let mut unlocked: JoinSet<_> = JoinSet::new();
        for mut server in servers.iter().cloned() {
            unlocked.spawn(async move { server.unlock("bare").await });
        }
        for _ in 0..most {
            unlocked.join_next().await.unwrap().unwrap();
        }
        unlocked.detach_all();
    }

    async fn lock(&mut self, key: &str) {
        let mut set = redis::cmd("SET");
        set.arg(key).arg(OWNER).arg("NX").arg("PX").arg(30_000);
        let _: () = set.query_async(&mut self.connection).await.unwrap();
    }

    async fn unlock(&mut self, key: &str) {
        let mut release = redis::cmd("EVALSHA");
        release.arg(&self.release).arg(1).arg(key).arg(OWNER);
        self.succeeds(&release).await;
    }

    /// Has it until it hands it over.
    pub(crate) async fn holds(&mut self, key: &str) {
        let set = redis::cmd("SET").arg(key).arg(OWNER).to_owned();
        let _: () = set.query_async(&mut self.connection).await.unwrap();
    }

    pub(crate) async fn hands_over(&mut self, key: &str) {
        let mut run = redis::cmd("EVALSHA");
        run.arg(&self.hand_over).arg(1).arg(key).arg(OWNER).arg(OTHER).arg(CHANNEL);
        self.succeeds(&run).await;
    }

    pub(crate) async fn makes_sure(&mut self, key: &str) {
        let mut run = redis::cmd("EVALSHA");
        run.arg(&self.make_sure).arg(1).arg(key).arg(OTHER);
        self.succeeds(&run).await;
    }

    /// Every script here returns 1 when it has done what it is for.
    async fn succeeds(&mut self, run: &Cmd) {
        let done: u32 = run.query_async(&mut self.connection).await.unwrap();
        assert_eq!(done, 1);
    }

    /// The requests that the library makes for a free mutex, with keys as long.
    pub(crate) async fn same_requests(&mut self, name: &str) {
        let mutex = format!("distributed-lock:{name}");
        let beside = |kind| format!("distributed-lock/1:{{{mutex}}}:{kind}:{OWNER}");
        let (waiters, written) = (beside("waiters"), beside("written"));
        let mut take = redis::pipe();
        take.cmd("SET").arg(&mutex).arg(OWNER).arg("NX").arg("PX").arg(30_000);
        take.cmd("SET").arg(&written).arg(OWNER).arg("NX").arg("PX").arg(30_000);
        take.cmd("EXISTS").arg(&waiters);
        let taken: ((), (), u32) = take.query_async(&mut self.connection).await.unwrap();
        assert_eq!(taken.2, 0);
        let mut release = redis::cmd("EVALSHA");
        release.arg(&self.release_alone).arg(3).arg(&mutex).arg(waiters).arg(written).arg(OWNER);
        self.succeeds(&release).await;
    }

    /// How many wait in this queue.
    pub(crate) async fn waiting(&mut self, queue: &str) -> u32 {
        redis::cmd("ZCARD").arg(queue).query_async(&mut self.connection).await.unwrap()
    }

    pub(crate) async fn ping(&mut self) {
        let _: () = redis::cmd("PING").query_async(&mut self.connection).await.unwrap();
    }
}
