//! Row 73: foreign or damaged values in every key that the scripts read.
//!
//! A generator makes every state: each key of a lock and of a semaphore with values of another type and
//! with each part of its own format missing, not a number, huge, infinite, far in the future, and without
//! expiry. Each is either healed, or an error names the key and the remedy, which then works.

use std::time::Duration;

use distributed_lock_core::error::LockResult;
use distributed_lock_core::prelude::*;
use distributed_lock_core::{FencingToken, Mode};
use distributed_lock_redis::{DamagedKey, RedisLockProvider, redis};
use distributed_lock_testkit::servers::RedisServer;
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;

use crate::{MS, leased};

/// Long beside what hundreds of states at a time take on a busy machine.
const LEASE: Duration = Duration::from_secs(6);

/// Longer than any lease and any tombstone of the tests, shorter than the run.
const HEALED_WITHIN: Duration = Duration::from_secs(30);

/// A command over the keys of one name; `{kind}` stands for one of them.
type Deed = Vec<String>;

/// A state: what was done to which keys.
struct State {
    kind: &'static str,
    deeds: Vec<Deed>,
}

fn deed(words: &[&str]) -> Deed {
    words.iter().map(|word| (*word).to_owned()).collect()
}

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const FAR: &str = "9999999999999";

/// Values of other types, in the place of each key.
fn other_types(kinds: &[&'static str]) -> Vec<State> {
    let make = |kind: &'static str| {
        let key = format!("{{{kind}}}");
        let types = [
            deed(&["RPUSH", &key, "x"]),
            deed(&["SET", &key, "x"]),
            deed(&["HSET", &key, "x", "y"]),
            deed(&["ZADD", &key, "1", "x"]),
            deed(&["SADD", &key, "x"]),
            deed(&["XADD", &key, "*", "x", "y"]),
        ];
        // A plain string in the mutex key is another program's lock.
        let is_a_lock = move |deed: &Deed| kind == "mutex" && deed[0] == "SET";
        let types = types.into_iter().filter(move |deed| !is_a_lock(deed));
        types.map(move |deed| State { kind, deeds: vec![deed] })
    };
    kinds.iter().flat_map(|kind| make(kind)).collect()
}

/// Members of `readers` or `permits` that are none, or last too long.
fn members(kind: &'static str) -> Vec<State> {
    let key = format!("{{{kind}}}");
    let members = [
        "",
        "x",
        TOKEN,
        "0123 x",
        &format!("{TOKEN} 0"),
        &format!("{TOKEN} -5"),
        &format!("{TOKEN} 1000"),
        &format!("{TOKEN} {FAR}{FAR}"),
        &format!("{TOKEN} inf"),
    ]
    .map(str::to_owned);
    let mut states = Vec::new();
    for member in &members {
        for score in ["inf", FAR, "1e300", "-inf", "0"] {
            let mut deeds = vec![deed(&["ZADD", &key, score, member])];
            if kind == "readers" {
                // As if readers held, without end.
                deeds.push(deed(&["SET", "{mutex}", &format!("r:{TOKEN}")]));
            }
            states.push(State { kind, deeds });
        }
    }
    states
}

/// Entries of waiters: each part of each value.
fn entries(queue: &'static str, waiters: &'static str, mode: &str) -> Vec<State> {
    let (queue_key, key) = (format!("{{{queue}}}"), format!("{{{waiters}}}"));
    let owner = if mode == "x" { TOKEN.to_owned() } else { format!("{TOKEN} 1000") };
    let sound = ["{now}", "1000", "1000", mode, "1", "{channel}", &owner].map(str::to_owned);
    let mut values =
        vec!["".into(), "x".into(), "{now} x".into(), FAR.into(), "-1".into(), "1e400".into()];
    for part in 0..sound.len() {
        for wrong in ["", "x", "0", "-1", "inf", "nan", "1e300", FAR, "99999999999999999999999999"]
        {
            let mut value = sound.clone();
            value[part] = wrong.to_owned();
            values.push(value.join(" "));
        }
        values.push(sound[..part].join(" "));
    }
    let mut states = Vec::new();
    for value in values {
        for position in ["1", "inf", "-inf", "1e300"] {
            states.push(State {
                kind: waiters,
                deeds: vec![
                    deed(&["ZADD", &queue_key, position, TOKEN]),
                    deed(&["HSET", &key, TOKEN, &value]),
                ],
            });
        }
    }
    states.push(State { kind: queue, deeds: vec![deed(&["ZADD", &queue_key, "inf", "x"])] });
    states
}

fn strings(kind: &'static str, values: &[&str]) -> Vec<State> {
    let key = format!("{{{kind}}}");
    let set = |value: &&str| State { kind, deeds: vec![deed(&["SET", &key, value])] };
    values.iter().map(set).collect()
}

const COUNTERS: [&str; 12] = [
    "",
    "x",
    "-5",
    "inf",
    "nan",
    "1e300",
    "9007199254740991 x",
    "9007199254740992 0a",
    "9007199254740993",
    "18446744073709551613 0a",
    "18446744073709551615",
    "99999999999999999999999999",
];

const RECORDS: [&str; 7] = [
    "",
    "x",
    "-1 0a",
    "inf 0a",
    "99999999999999999999999999 0a",
    "1000",
    "0 0123456789abcdef0123456789abcdef",
];

fn states(mode: Mode) -> Vec<State> {
    match mode {
        Mode::Permit { .. } => [
            other_types(&["permits", "permit-queue", "permit-waiters", "permit-counter"]),
            members("permits"),
            entries("permit-queue", "permit-waiters", "p"),
            strings("permit-counter", &COUNTERS),
        ]
        .into_iter()
        .flatten()
        .collect(),
        _ => [
            other_types(&["readers", "queue", "waiters", "mutex", "written", "counter"]),
            members("readers"),
            entries("queue", "waiters", if mode == Mode::Shared { "s" } else { "x" }),
            strings("written", &RECORDS),
            strings("counter", &COUNTERS),
            strings("mutex", &[&format!("r:{TOKEN}")]),
        ]
        .into_iter()
        .flatten()
        .collect(),
    }
}

/// The keys of a name, found by what an ordinary use leaves or by their documented form.
fn key_of(provider: &RedisLockProvider, name: &str, kind: &str) -> String {
    let mutex = provider.native_key(name).unwrap();
    if kind == "mutex" {
        return mutex;
    }
    use sha2::Digest as _;
    let hash: String = sha2::Sha256::digest(mutex.as_bytes())[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("distributed-lock/1:{{{mutex}}}:{kind}:{hash}")
}

struct Stage {
    here: RedisLockProvider,
    there: RedisLockProvider,
    connection: MultiplexedConnection,
    channel: String,
}

impl Stage {
    async fn start(server: &RedisServer) -> Self {
        let (here, there) =
            (leased(&server.url(), LEASE).await, leased(&server.url(), LEASE).await);
        let client = redis::Client::open(server.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        // Both have waited once, so their channels have subscribers.
        let held = here.try_acquire_lock("channel").await.unwrap().unwrap();
        assert!(there.acquire_lock("channel", Some(50 * MS)).await.is_err());
        held.release().await.unwrap();
        let channels: Vec<String> =
            redis::cmd("PUBSUB").arg("CHANNELS").query_async(&mut connection).await.unwrap();
        let channel = channels.into_iter().next().unwrap();
        Self { here, there, connection, channel }
    }

    async fn run(&self, name: &str, deed: &Deed) {
        let mut connection = self.connection.clone();
        let (seconds, _): (u64, u64) =
            redis::cmd("TIME").query_async(&mut connection).await.unwrap();
        let fill = |word: &String| {
            let word =
                word.replace("{now}", &format!("{seconds}000")).replace("{channel}", &self.channel);
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

    async fn delete(&self, key: &str) {
        let mut connection = self.connection.clone();
        redis::cmd("DEL").arg(key).query_async::<()>(&mut connection).await.unwrap();
    }

    /// Takes the lock and draws its token; an error must name a key, whose removal is the remedy.
    async fn acquire(
        &self,
        by: &RedisLockProvider,
        (name, mode): (&str, Mode),
        what: &str,
        last: &mut FencingToken,
    ) -> Held {
        for _ in 0..3 {
            let held = match acquire(by, name, mode, Some(HEALED_WITHIN)).await {
                Ok(held) => held,
                Err(error) => {
                    self.delete(&remedy(&error, what)).await;
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
                    self.delete(&remedy(&error, what)).await;
                    // Every resource has forgotten them: that is part of the remedy.
                    *last = FencingToken(0);
                }
            }
            held.release().await.unwrap();
        }
        panic!("{what}: the remedies do not help");
    }

    /// Exclusion, order of tokens and release, all in the damaged state.
    async fn is_usable(&self, name: &str, mode: Mode, what: &str) {
        let mut last = FencingToken(0);
        for by in [&self.here, &self.there, &self.here] {
            let held = self.acquire(by, (name, mode), what, &mut last).await;
            let rival = if mode == Mode::Shared { Mode::Exclusive } else { mode };
            match acquire(&self.there, name, rival, Some(Duration::ZERO)).await {
                Ok(_) => panic!("{what}: two holders"),
                Err(LockError::Timeout(_)) => {}
                Err(error) => drop(remedy(&error, what)),
            }
            held.release().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        }
    }
}

fn remedy(error: &LockError, what: &str) -> String {
    let Some(damaged) = error.find_source::<DamagedKey>() else { panic!("{what}: {error:?}") };
    assert!(damaged.to_string().contains("Remedy: "), "{what}: {damaged}");
    assert!(damaged.to_string().contains(damaged.key()), "{what}: {damaged}");
    damaged.key().to_owned()
}

enum Held {
    Writer(distributed_lock_redis::RedisLockHandle),
    Reader(distributed_lock_redis::RedisReadLockHandle),
    Permit(distributed_lock_redis::RedisSemaphoreHandle),
}

impl Held {
    async fn token(&self) -> LockResult<FencingToken> {
        match self {
            Self::Writer(held) => held.fencing_token().await,
            Self::Reader(held) => held.fencing_token().await,
            Self::Permit(held) => held.fencing_token().await,
        }
    }

    fn is_lost(&self) -> bool {
        match self {
            Self::Writer(held) => held.is_lost(),
            Self::Reader(held) => held.is_lost(),
            Self::Permit(held) => held.is_lost(),
        }
    }

    async fn release(self) -> LockResult<()> {
        match self {
            Self::Writer(held) => held.release().await,
            Self::Reader(held) => held.release().await,
            Self::Permit(held) => held.release().await,
        }
    }
}

async fn acquire(
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

const MODES: [Mode; 3] = [Mode::Exclusive, Mode::Shared, Mode::Permit { max: 1 }];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_73_damaged_state_is_healed_or_named_with_its_remedy() {
    let server = RedisServer::start(&[]);
    let stage = Stage::start(&server).await;
    for mode in MODES {
        let states = states(mode);
        println!("{mode:?}: {} states", states.len());
        join_all(states.iter().enumerate().map(async |(number, state)| {
            let name = &format!("free {mode:?} {number}");
            let what = &format!("{mode:?}, {}: {:?}", state.kind, state.deeds);
            for deed in &state.deeds {
                stage.run(name, deed).await;
            }
            stage.is_usable(name, mode, what).await;
        }))
        .await;
    }
}

/// The same while the lock is held: the holder keeps it or is told, and no second one gets in meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_73_damage_beside_a_holder_lets_no_second_one_in() {
    let server = RedisServer::start(&[]);
    let stage = Stage::start(&server).await;
    for mode in MODES {
        let states = states(mode);
        // What replaces the key that the holder has ends the hold: rows 21.
        let is_beside = |state: &&State| {
            let replaced = ["mutex", "readers", "permits"];
            !replaced.contains(&state.kind)
        };
        join_all(states.iter().filter(is_beside).enumerate().map(async |(number, state)| {
            let name = &format!("held {mode:?} {number}");
            let what = &format!("{mode:?}, {}: {:?}", state.kind, state.deeds);
            let held = acquire(&stage.here, name, mode, None).await.unwrap();
            for deed in &state.deeds {
                // The key may be there, of its own type.
                stage.run(name, &self::deed(&["DEL", &deed[1]])).await;
                stage.run(name, deed).await;
            }
            let rival = if mode == Mode::Shared { Mode::Exclusive } else { mode };
            let second = acquire(&stage.there, name, rival, Some(Duration::from_secs(2))).await;
            assert!(held.is_lost() || second.is_err(), "{what}: two holders");
            assert!(!held.is_lost(), "{what}: lost");
            held.release().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
            stage.is_usable(name, mode, what).await;
        }))
        .await;
    }
}
