//! Stress on one name: three processes of eight tasks acquire, time out and drop their futures at
//! random, in every mode, while their links to the server stall. A caller with a good link must never
//! wait for long, and in the end nothing may be left.
//!
//! `STRESS_SECONDS` says for how long (20 if it says nothing), `STRESS_SEED` with which seed. All
//! backends are stressed at the same time; `cargo test -p distributed-lock-testkit --test stress redis`
//! stresses one.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "it is a test")]

use std::env;
use std::fmt::Debug;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use distributed_lock::{DynLockProvider, LockHandle, LockProviderExt, connect};
use distributed_lock_core::traits::{
    DistributedReaderWriterLock, DistributedSemaphore, ReaderWriterLockProvider, SemaphoreProvider,
};
use distributed_lock_testkit::chaos::Stage;
use distributed_lock_testkit::history::{Invariant, Rules, What, check, now};
use distributed_lock_testkit::nemesis::{Crew, Noise};
use distributed_lock_testkit::proxy::{FaultProxy, Way};
use distributed_lock_testkit::servers::{PostgresServer, RedisServer};
use distributed_lock_testkit::worker::random::Random;
use distributed_lock_testkit::worker::{self, Primitive, Target};
use tokio::time::{Instant, sleep};

/// Makes this test program a worker.
const ROLE: &str = "DISTRIBUTED_LOCK_STRESS_WORKER";

const PROCESSES: usize = 3;
const TASKS: u64 = 8;

/// The longest stall of a link: above the operation timeout, so that requests are given up.
const LONGEST_STALL: Duration = Duration::from_secs(3);

/// No caller with a good link waits longer. A holder may be unable to release for the longest stall;
/// then each of the three processes may be given the lock and not take it, for 3 s at most. It is half
/// of the default lease, so a lock without an owner is found.
const WAITS_AT_MOST: Duration = Duration::from_secs(15);

/// Permits of the semaphore.
const PERMITS: u32 = 2;

const LOCK: &str = "stress";
const SEMAPHORE: &str = "stress-permits";

/// Where a worker starts. Run as a test, it has nothing to do.
#[test]
fn worker_entry() {
    if env::var_os(ROLE).is_some() {
        worker::run(connect);
    }
}

fn worker_program() -> Command {
    let mut program = Command::new(env::current_exe().unwrap());
    program.args(["--exact", "worker_entry", "--nocapture"]).env(ROLE, "yes");
    program
}

#[test]
fn redis_bears_stress() {
    let server = RedisServer::start(&[]);
    let proxies = vec![FaultProxy::start(server.address())];
    let stalling = server.url_by(proxies[0].port());
    stress("Redis", &server.url(), &stalling, proxies, true, || left_on_redis(&server));
}

#[test]
fn redlock_bears_stress() {
    let servers: Vec<RedisServer> = (0..3).map(|_| RedisServer::start(&[])).collect();
    let proxies: Vec<_> = servers.iter().map(|s| FaultProxy::start(s.address())).collect();
    let urls: Vec<String> = servers.iter().map(RedisServer::url).collect();
    let stalling: Vec<String> =
        servers.iter().zip(&proxies).map(|(s, proxy)| s.url_by(proxy.port())).collect();
    stress("RedLock", &urls.join(","), &stalling.join(","), proxies, false, || {
        servers.iter().flat_map(left_on_redis).collect()
    });
}

#[test]
fn postgres_bears_stress() {
    let server = PostgresServer::start(&[]);
    let proxies = vec![FaultProxy::start(server.address())];
    let stalling = server.url_by(proxies[0].port());
    stress("PostgreSQL", &server.url(), &stalling, proxies, true, || {
        let held = "select count(*) from pg_locks where locktype = 'advisory'";
        let held = server.psql(held).unwrap().trim().to_owned();
        if held == "0" { Vec::new() } else { vec![format!("{held} advisory locks")] }
    });
}

#[test]
fn files_bear_stress() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file://{}", directory.path().join("locks").display());
    // Nothing is left but the files, and these lock nothing: that is seen by acquiring.
    stress("files", &url, &url, Vec::new(), false, Vec::new);
}

/// What is there beside tombstones of waits that were given up and counters of tokens, which end by
/// themselves.
fn left_on_redis(server: &RedisServer) -> Vec<String> {
    let keys = server.cli(&["KEYS", "*"]);
    let kind = |key: &str| key.split_once("}:").map(|(_, kind)| kind.to_owned());
    let stays = |key: &&str| {
        key.ends_with(":{members}")
            || kind(key).is_some_and(|kind| {
                let kind = kind.split(':').next().unwrap_or_default();
                kind.ends_with("waiters") || kind.ends_with("counter")
            })
    };
    let left = keys.lines().filter(|key| !key.is_empty() && !stays(key));
    left.map(|key| format!("{key} on {}: {}", server.address(), content(server, key))).collect()
}

/// A key's content and what is left of its time, to find out how it came there.
fn content(server: &RedisServer, key: &str) -> String {
    let command: &[&str] = match server.cli(&["TYPE", key]).as_str() {
        "hash" => &["HGETALL", key],
        "zset" => &["ZRANGE", key, "0", "-1", "WITHSCORES"],
        _ => &["GET", key],
    };
    let (content, time) = (server.cli(command), server.cli(&["PTTL", key]));
    format!("{} ({time} ms)", content.replace('\n', " "))
}

/// Stresses one backend. `url` is that of the caller with a good link, `stalling` that of the workers.
fn stress(
    backend: &str,
    url: &str,
    stalling: &str,
    proxies: Vec<FaultProxy>,
    ordered: bool,
    left: impl Fn() -> Vec<String>,
) {
    let length = Duration::from_secs(number("STRESS_SECONDS").unwrap_or(20));
    let seed = number("STRESS_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let noise = Noise::measure();
    let resources = tempfile::tempdir().unwrap();
    let mut crew = Crew::start(worker_program, stalling, resources.path(), PROCESSES);
    let lock = [Primitive::Mutex, Primitive::Write, Primitive::Read, Primitive::Read];
    let targets =
        vec![Target::new(LOCK, &lock), Target::new(SEMAPHORE, &[Primitive::Permit(PERMITS)])];
    let mut random = Random::new(seed);
    for worker in 0..PROCESSES {
        let (seed, targets) = (random.number(), targets.clone());
        crew.tell(worker, &worker::Command::Load { seed, tasks: TASKS, targets });
    }
    let is_over = AtomicBool::new(false);
    let (mut failures, waits, stalls) = thread::scope(|scope| {
        let caller = scope.spawn(|| call(url, &is_over));
        let stalls = stall(&crew, &proxies, &mut random, now() + length);
        is_over.store(true, Ordering::Relaxed);
        let (failures, waits) = caller.join().unwrap();
        (failures, waits, stalls)
    });
    crew.rest();
    crew.record().log("nemesis", "", What::quiet());
    failures.extend(Stage::new(&mut crew, &(), &noise, 0).everything_is_free());
    // The workers still run: a release that ended with a majority is finished in the background.
    failures.extend(still_there(&left));
    let events = crew.record().events();
    drop(crew);

    let epsilon = Duration::from_millis(25) + 2 * noise.worst();
    // Calls end later than these rules know while their link stalls: a release waits for it, too.
    let rules = Rules { epsilon, ordered, ..Rules::default() }.without(Invariant::CallsEnd);
    failures.extend(check(&events, &rules).iter().map(ToString::to_string));
    let count = |is_it: fn(&What) -> bool| events.iter().filter(|event| is_it(&event.what)).count();
    let acquired = count(|what| matches!(what, What::Acquired { .. }));
    println!(
        "{backend}, seed {seed}: {acquired} acquired, {} failed, {stalls} stalls; {} waits, the \
         longest {:?}",
        count(|what| matches!(what, What::Failed { .. })),
        waits.len(),
        waits.iter().max().copied().unwrap_or_default(),
    );
    assert!(failures.is_empty(), "{backend}, seed {seed}:\n{}", failures.join("\n"));
    // In a second at least ten: else it was no stress.
    assert!(acquired as u64 >= 10 * length.as_secs(), "{backend}: {acquired} acquired");
}

/// Stalls links at random until the end; how often.
fn stall(crew: &Crew, proxies: &[FaultProxy], random: &mut Random, end: Duration) -> usize {
    let mut stalls = 0;
    while now() < end {
        crew.record().pause(Duration::from_millis(50) + random.up_to(Duration::from_millis(400)));
        let Some(proxy) = random.pick(proxies) else { continue };
        let most = if random.percent(25) { LONGEST_STALL } else { LONGEST_STALL / 10 };
        let way = if random.percent(50) { Way::ToServer } else { Way::ToClient };
        proxy.stall(way);
        crew.record().pause(random.up_to(most));
        proxy.heal();
        stalls += 1;
    }
    stalls
}

/// Acquires in every mode, one after the other, over a good link: what was broken, and the waits.
fn call(url: &str, is_over: &AtomicBool) -> (Vec<String>, Vec<Duration>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let provider = connect(url).await.unwrap();
        let (mut failures, mut waits) = (Vec::new(), Vec::new());
        while !is_over.load(Ordering::Relaxed) && failures.is_empty() {
            for mode in ["mutex", "read", "write", "permit"] {
                let began = Instant::now();
                match once(&provider, mode).await {
                    Ok(wait) => waits.push(wait),
                    Err(error) => failures.push(format!(
                        "{mode} over a good link, after {:?}: {error}",
                        began.elapsed()
                    )),
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
        (failures, waits)
    })
}

/// One acquire and release; how long it waited.
async fn once(provider: &DynLockProvider, mode: &str) -> Result<Duration, String> {
    let (began, most) = (Instant::now(), Some(WAITS_AT_MOST));
    let explain = |error: &dyn Debug| format!("{error:?}");
    let lock = provider.create_reader_writer_lock(LOCK);
    let handle = match mode {
        "mutex" => provider.acquire_lock(LOCK, most).await,
        "read" => lock.acquire_read(most).await,
        "write" => lock.acquire_write(most).await,
        _ => provider.create_semaphore(SEMAPHORE, PERMITS).acquire(most).await,
    };
    let handle = handle.map_err(|error| explain(&error))?;
    let waited = began.elapsed();
    handle.release().await.map_err(|error| explain(&error))?;
    Ok(waited)
}

/// What is left once the last clean-ups had the time of one operation.
fn still_there(left: &impl Fn() -> Vec<String>) -> Vec<String> {
    let end = now() + Duration::from_secs(3);
    loop {
        let there = left();
        if there.is_empty() || now() > end {
            return there.into_iter().map(|what| format!("left: {what}")).collect();
        }
        // Until then there is nothing to wait for but time.
        thread::park_timeout(Duration::from_millis(20));
    }
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap())
}
