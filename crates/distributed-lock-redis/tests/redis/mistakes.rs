//! Mistakes that published Redis locks make, each shown not to be made here. Others are shown where
//! they belong: dropped attempts in `lost_replies`, dead readers in `processes`, drops and panics in
//! the conformance suite.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_testkit::servers::RedisServer;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::{MS, SECOND, held, is_held, leased, order, told_of_loss};

/// `distributed-lock` 0.2.0: with 27 s or less every acquire fails and leaves its key behind.
#[tokio::test]
async fn any_expiry_works_and_leaves_no_key() {
    let server = RedisServer::shared();
    for expiry in [100, 101, 1_000, 9_999, 27_000, 27_001, 3_600_000].map(|ms| ms * MS) {
        let here = leased(&server.url(), expiry).await;
        let (name, key) =
            (format!("expiry {expiry:?}"), format!("distributed-lock:expiry {expiry:?}"));
        let handle = held(&here, &name).await;
        let left: u64 = server.cli(&["PTTL", &key]).parse().unwrap();
        assert!(Duration::from_millis(left) <= expiry, "{left} ms of {expiry:?}");
        handle.release().await.unwrap();
        assert_eq!(server.cli(&["EXISTS", &key]), "0", "{expiry:?}");
    }
}

/// `distributed-lock` 0.2.0: the owner's token belongs to the lock object, so that a stale handle of it
/// releases its next hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_handle_does_not_release_the_next_hold_of_the_same_object() {
    let server = RedisServer::shared();
    let (here, there) = (leased(&server.url(), SECOND).await, leased(&server.url(), SECOND).await);
    let lock = here.create_lock("stale");
    for is_dropped in [false, true] {
        let stale = lock.acquire(None).await.unwrap();
        order(server, &["DEL", "distributed-lock:stale"]);
        told_of_loss(&stale, SECOND).await;
        let next = lock.acquire(None).await.unwrap();
        if is_dropped {
            drop(stale);
        } else {
            assert!(matches!(stale.release().await, Err(LockError::LockLost(_))));
        }
        // Behind whatever the stale handle has sent.
        assert!(lock.try_acquire().await.unwrap().is_none());
        assert!(is_held(&there, "stale").await);
        next.release().await.unwrap();
    }
}

/// `distributed-lock` 0.2.0: 170 times a reader beside a writer and 85 times two writers in 15 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_and_writers_of_four_processes_never_overlap() {
    let server = RedisServer::shared();
    let (readers, writers) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let end = Instant::now() + 1500 * MS;
    let mut tasks = JoinSet::new();
    for process in 0..4 {
        let here = leased(&server.url(), 30 * SECOND).await;
        for writes in [true, false, false] {
            let lock = here.create_reader_writer_lock("overlap");
            let (readers, writers) = (Arc::clone(&readers), Arc::clone(&writers));
            tasks.spawn(async move {
                let mut rounds = [0, 0];
                while Instant::now() < end {
                    if writes {
                        let handle = lock.acquire_write(None).await.unwrap();
                        let others = writers.fetch_add(1, Ordering::SeqCst);
                        tokio::task::yield_now().await;
                        let beside = readers.load(Ordering::SeqCst);
                        writers.fetch_sub(1, Ordering::SeqCst);
                        assert_eq!((others, beside), (0, 0), "beside a writer of {process}");
                        handle.release().await.unwrap();
                    } else {
                        let handle = lock.acquire_read(None).await.unwrap();
                        readers.fetch_add(1, Ordering::SeqCst);
                        tokio::task::yield_now().await;
                        let beside = writers.load(Ordering::SeqCst);
                        readers.fetch_sub(1, Ordering::SeqCst);
                        assert_eq!(beside, 0, "beside a reader of {process}");
                        handle.release().await.unwrap();
                    }
                    rounds[usize::from(writes)] += 1;
                }
                rounds
            });
        }
    }
    let rounds = tasks.join_all().await;
    let [read, written] = rounds.iter().fold([0, 0], |sum, one| [sum[0] + one[0], sum[1] + one[1]]);
    println!("{read} reads and {written} writes, none beside a write");
    assert!(read >= 100 && written >= 100, "too few to say anything");
}
