//! What is left after very much use: nothing.

use std::task::{Context, Waker};

use distributed_lock_core::prelude::*;
use distributed_lock_postgres::PostgresLockProvider;
use distributed_lock_testkit::servers::PostgresServer;

use crate::observer::{HELD, Observer, QUEUED, SESSIONS};
use crate::worker::{Worker, say, told};
use crate::{MS, SECOND};

/// A tenth of what is acquired and released; the environment's `ACQUIRES` says how much that is in
/// all: 100000 takes a minute in a debug build.
const TENTH: usize = 1_000;

/// Resident memory in bytes.
pub(crate) fn memory() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let resident: u64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
    resident * 4096
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Memory and descriptors are the whole process's, so this has a process of its own.
pub(crate) async fn use_much(url: &str) {
    let tenth = std::env::var("ACQUIRES").map_or(TENTH, |all| all.parse::<usize>().unwrap() / 10);
    let here = PostgresLockProvider::builder().connection_string(url).build().await.unwrap();
    let held = here.acquire_lock("held", None).await.unwrap();
    let contended = here.create_lock("held");
    let there = PostgresLockProvider::builder().connection_string(url).build().await.unwrap();
    let elsewhere = there.create_lock("held");
    let mut after_a_tenth = None;
    for round in 0..10 {
        for number in 0..tenth {
            let name = format!("name {}", number % 100);
            let handle = here.try_acquire_lock(&name).await.unwrap().unwrap();
            if number % 20 != 0 {
                handle.release().await.unwrap();
                continue;
            }
            drop(handle);
            // One waits in its process's queue, and another, now and then, in the server's.
            let mut cancelled = Box::pin(contended.acquire(None));
            let mut context = Context::from_waker(Waker::noop());
            assert!(cancelled.as_mut().poll(&mut context).is_pending());
            if number % 200 == 0 {
                let cancelled = tokio::time::timeout(2 * MS, elsewhere.acquire(None)).await;
                assert!(cancelled.is_err());
            }
        }
        if round == 0 {
            // Idle sessions stay for half a second.
            tokio::time::sleep(SECOND).await;
            after_a_tenth = Some((memory(), descriptors(), tasks()));
        }
    }
    tokio::time::sleep(SECOND).await;
    let (memory_before, descriptors_before, tasks_before) = after_a_tenth.unwrap();
    let grown = memory().saturating_sub(memory_before);
    say(&format!("grown by {grown} bytes; {} descriptors, {} tasks", descriptors(), tasks()));
    assert_eq!(descriptors(), descriptors_before);
    assert_eq!(tasks(), tasks_before);
    assert!(grown <= 2 << 20, "{grown} bytes more than after the first tenth");
    held.release().await.unwrap();
    say("nothing is left");
    tokio::task::spawn_blocking(told).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_47_much_use_leaves_nothing() {
    let server = PostgresServer::start(&[]);
    let mut worker = Worker::start("much use", &server.url());
    println!("{}", worker.hears());
    assert_eq!(worker.hears(), "nothing is left");
    let observer = Observer::of(&server).await;
    observer.until(HELD, 0, SECOND).await;
    assert_eq!(observer.number(QUEUED).await, 0);
    let sessions = observer.number(SESSIONS).await;
    assert!(sessions <= 4, "{sessions} sessions of two providers");
}

/// Thousands of tasks may wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_future_of_an_acquire_is_small() {
    let server = PostgresServer::shared();
    let here = crate::provider(server).await;
    let (lock, rw) = (here.create_lock("name"), here.create_reader_writer_lock("name"));
    let permits = here.create_semaphore("name", 1);
    let sizes = [
        size_of_val(&lock.acquire(None)),
        size_of_val(&lock.try_acquire()),
        size_of_val(&rw.acquire_read(None)),
        size_of_val(&permits.acquire(None)),
    ];
    println!("{sizes:?}");
    assert!(sizes.into_iter().all(|size| size <= 8 << 10), "{sizes:?}");
}
