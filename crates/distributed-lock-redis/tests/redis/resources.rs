//! What many locks leave behind: nothing.

use distributed_lock_core::prelude::*;
use distributed_lock_redis::RedisLockProvider;
use distributed_lock_testkit::servers::RedisServer;
use tokio::task::JoinSet;

use crate::worker::{Worker, say};
use crate::{MS, SECOND, assert_every_key_expires, leased};

const ACQUIRES: usize = 100_000;
const TASKS: usize = 10;

/// In a process of its own, whose memory and descriptors are nobody else's.
#[test]
fn row_47_many_locks_leave_nothing() {
    let server = RedisServer::start(&[]);
    let mut worker = Worker::start("many locks", &server.url());
    assert_eq!(worker.hears(), "nothing is left");
    assert_every_key_expires(&server);
    assert_eq!(server.cli(&["KEYS", "distributed-lock:*"]), "", "locks are left");
    assert_eq!(server.cli(&["KEYS", "*queue*"]), "", "places are left");
}

pub(crate) fn many_locks(url: &str) {
    use_many((ACQUIRES, 5_000), async || leased(url, 30 * SECOND).await);
    say("nothing is left");
}

/// So many locks acquired and released, and so many dropped handles and cancelled waits.
pub(crate) fn use_many(
    (acquires, others): (usize, usize),
    connect: impl AsyncFn() -> RedisLockProvider,
) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (here, there) = (connect().await, connect().await);
        let cycle = async |tenth: usize| {
            // Side by side, which takes less time than one after the other.
            let mut tasks = JoinSet::new();
            for task in 0..TASKS {
                let here = here.clone();
                tasks.spawn(async move {
                    for number in 0..acquires / 10 / TASKS {
                        let name = format!("cycle {task} {}", number % 10);
                        here.acquire_lock(&name, None).await.unwrap().release().await.unwrap();
                    }
                });
            }
            tasks.join_all().await;
            for number in 0..others / 10 {
                let name = format!("dropped {tenth} {}", number % 10);
                drop(here.acquire_lock(&name, None).await.unwrap());
            }
            let held = there.acquire_lock("held", None).await.unwrap();
            for _ in 0..others / 100 {
                let mut waiters = JoinSet::new();
                for _ in 0..10 {
                    let here = here.clone();
                    waiters
                        .spawn(async move { here.acquire_lock("held", Some(MS)).await.map(drop) });
                }
                waiters.join_all().await;
            }
            held.release().await.unwrap();
        };
        cycle(0).await;
        let (memory, descriptors) = (memory(), descriptors());
        let tasks = runtime.metrics().num_alive_tasks();
        for tenth in 1..10 {
            cycle(tenth).await;
        }
        let bound = memory + 2 * 1024;
        assert!(
            self::memory() <= bound,
            "{} KiB after, {memory} KiB after the first tenth",
            self::memory()
        );
        assert_eq!(self::descriptors(), descriptors);
        let began = tokio::time::Instant::now();
        while runtime.metrics().num_alive_tasks() > tasks {
            assert!(
                began.elapsed() < SECOND,
                "{} tasks, {tasks} before",
                runtime.metrics().num_alive_tasks()
            );
            tokio::task::yield_now().await;
        }
    });
}

/// Resident memory in KiB, without pages of the program's file, which come and go with the system's cache.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
