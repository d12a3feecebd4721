//! Tasks that hold what others wait for, and the reverse: a timeout is theirs, never a deadlock that
//! the server sees among sessions of tasks that know nothing of each other.

use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_postgres::PostgresLockProvider;
use distributed_lock_testkit::servers::PostgresServer;
use distributed_lock_testkit::worker::random::Random;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::observer::{HELD, Observer, QUEUED};
use crate::{MS, SECOND, provider};

/// For how long tasks cross each other; the environment's `CROSSED_SECONDS` if it is there.
const SECONDS: u64 = 5;

const TASKS: u64 = 40;
const PROCESSES: usize = 4;
const NAMES: u64 = 8;

/// What the server writes when it has found one.
fn assert_no_deadlock(server: &PostgresServer) {
    let log = server.log();
    assert!(!log.contains("deadlock detected"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_15_crossed_locks_of_two_processes_are_timeouts() {
    let server = PostgresServer::start(&[("deadlock_timeout", "100ms")]);
    let observer = Observer::of(&server).await;
    let (here, there) = (provider(&server).await, provider(&server).await);
    let one = here.acquire_lock("one", None).await.unwrap();
    let two = there.acquire_lock("two", None).await.unwrap();
    let waits = async |provider: &PostgresLockProvider, name| {
        let began = Instant::now();
        let waited = provider.acquire_lock(name, Some(SECOND)).await;
        assert!(matches!(waited, Err(LockError::Timeout(_))), "{waited:?}");
        assert!(began.elapsed() >= SECOND && began.elapsed() <= 2 * SECOND);
    };
    tokio::join!(waits(&here, "two"), waits(&there, "one"));
    assert!(!one.is_lost() && !two.is_lost());
    assert_no_deadlock(&server);
    observer.until(QUEUED, 0, SECOND).await;
}

/// One task: holds a name, and waits for another.
async fn cross(process: PostgresLockProvider, seed: u64, until: Instant) -> (u64, u64) {
    let mut random = Random::new(seed);
    let (mut both, mut timeouts) = (0, 0);
    while Instant::now() < until {
        let first = random.below(NAMES);
        let second = (first + 1 + random.below(NAMES - 1)) % NAMES;
        let wait = |random: &mut Random| Some(30 * MS + random.up_to(120 * MS));
        let outer = process.acquire_lock(&format!("name {first}"), wait(&mut random)).await;
        let Ok(outer) = outer.inspect_err(expect_timeout) else {
            timeouts += 1;
            continue;
        };
        let inner = process.acquire_lock(&format!("name {second}"), wait(&mut random)).await;
        match inner.inspect_err(expect_timeout) {
            Ok(inner) => {
                both += 1;
                tokio::time::sleep(random.up_to(5 * MS)).await;
                inner.release().await.unwrap();
            }
            Err(_) => timeouts += 1,
        }
        outer.release().await.unwrap();
    }
    (both, timeouts)
}

fn expect_timeout(error: &LockError) {
    assert!(matches!(error, LockError::Timeout(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_15_forty_tasks_that_cross_each_other_meet_no_deadlock() {
    let seconds = std::env::var("CROSSED_SECONDS").map_or(SECONDS, |text| text.parse().unwrap());
    let server = PostgresServer::start(&[("deadlock_timeout", "20ms")]);
    let observer = Observer::of(&server).await;
    let mut processes = Vec::new();
    for _ in 0..PROCESSES {
        processes.push(provider(&server).await);
    }
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut tasks = JoinSet::new();
    for (task, process) in (0..TASKS).zip(processes.iter().cycle()) {
        tasks.spawn(cross(process.clone(), task, until));
    }
    let (mut both, mut timeouts) = (0, 0);
    while let Some(task) = tasks.join_next().await {
        let (more, late) = task.unwrap();
        (both, timeouts) = (both + more, timeouts + late);
    }
    println!("{both} times both, {timeouts} timeouts in {seconds} s");
    assert!(both >= 2 * seconds && timeouts >= 10 * seconds, "they must meet");
    assert_no_deadlock(&server);
    observer.until(QUEUED, 0, SECOND).await;
    observer.until(HELD, 0, SECOND).await;
}
