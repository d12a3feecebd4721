//! Acquires that are given up, at any moment and at that of the grant.

use distributed_lock_core::prelude::*;
use distributed_lock_postgres::PostgresLockProvider;
use distributed_lock_testkit::servers::PostgresServer;
use distributed_lock_testkit::worker::random::Random;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::observer::{HELD, Observer, QUEUED, SESSIONS};
use crate::{MS, SECOND, provider};

/// How many are cancelled; the environment's `CANCELLED` if it is there.
const CANCELLED: u64 = 5000;

const TASKS: u64 = 16;
const NAMES: u64 = 4;

/// Longer than a grant takes.
const LONGEST: std::time::Duration = std::time::Duration::from_millis(6);

/// Acquires in any of the ways there are, and gives up at random: before the request, while it is
/// on its way, while it waits, or just when it is granted. Returns how many were cancelled.
async fn give_up(here: PostgresLockProvider, seed: u64, count: u64) -> u64 {
    let mut random = Random::new(seed);
    let mut cancelled = 0;
    while cancelled < count {
        let (name, patience) = (format!("name {}", random.below(NAMES)), random.up_to(LONGEST));
        // A lock that was granted is dropped, or released: others wait for it.
        let given_up = match random.below(4) {
            0 => {
                let lock = here.create_reader_writer_lock(&name);
                timeout(patience, lock.acquire_read(None)).await.map(drop).is_err()
            }
            1 => {
                let permits = here.create_semaphore(&name, 2);
                timeout(patience, permits.acquire(None)).await.map(drop).is_err()
            }
            _ => match timeout(patience, here.acquire_lock(&name, None)).await {
                Ok(handle) => {
                    tokio::time::sleep(random.up_to(2 * MS)).await;
                    handle.unwrap().release().await.unwrap();
                    false
                }
                Err(_) => true,
            },
        };
        cancelled += u64::from(given_up);
    }
    cancelled
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_40_five_thousand_cancelled_acquires_leave_nothing() {
    let all = std::env::var("CANCELLED").map_or(CANCELLED, |text| text.parse().unwrap());
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    let processes = [provider(&server).await, provider(&server).await];
    let used = join_used(&processes).await;
    let before = observer.number(SESSIONS).await;
    println!("{before} sessions after {used} uses");
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for (seed, here) in (0..TASKS).zip(processes.iter().cycle()) {
        tasks.spawn(give_up(here.clone(), seed, all.div_ceil(TASKS)));
    }
    let mut cancelled = 0;
    while let Some(task) = tasks.join_next().await {
        cancelled += task.unwrap();
    }
    println!("{cancelled} cancelled in {:?}", began.elapsed());
    assert!(cancelled >= all);
    tokio::time::sleep(SECOND).await;
    assert_eq!(observer.number(QUEUED).await, 0, "a waiting session");
    assert_eq!(observer.number(HELD).await, 0, "a ghost");
    let after = observer.number(SESSIONS).await;
    assert!(after <= before, "{after} sessions, {before} before");
    for here in &processes {
        for name in 0..NAMES {
            let name = format!("name {name}");
            let handle = here.try_acquire_lock(&name).await.unwrap();
            handle.expect("nobody holds it").release().await.unwrap();
        }
    }
}

/// Every process has its session.
async fn join_used(processes: &[PostgresLockProvider]) -> usize {
    for here in processes {
        here.acquire_lock("used", None).await.unwrap().release().await.unwrap();
    }
    processes.len()
}

/// The grant and the cancellation meet: whichever is first, the lock is free afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_40_a_grant_that_crosses_its_cancellation_is_given_back() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    let (here, there) = (provider(&server).await, provider(&server).await);
    let (mut granted, mut random) = (0, Random::new(40));
    // About as long as a hand-over takes on this machine now: found by whichever was first.
    let mut window = MS;
    for _ in 0..200 {
        let held = there.acquire_lock("name", Some(SECOND)).await.unwrap();
        let waiter = here.clone();
        let waiting = tokio::spawn(async move { waiter.acquire_lock("name", None).await });
        observer.until(QUEUED, 1, SECOND).await;
        let release = tokio::spawn(held.release());
        let spin = Instant::now() + random.up_to(window);
        while Instant::now() < spin {
            tokio::task::yield_now().await;
        }
        waiting.abort();
        let was_granted = waiting.await.is_ok();
        granted += u32::from(was_granted);
        window = if was_granted { window * 4 / 5 } else { (window * 5 / 4).min(SECOND / 10) };
        release.await.unwrap().unwrap();
    }
    println!("{granted} of 200 granted first");
    observer.until(HELD, 0, SECOND).await;
    assert_eq!(observer.number(QUEUED).await, 0);
    assert!((10..190).contains(&granted), "they must meet: {granted}");
}
