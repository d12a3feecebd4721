//! What a provider leaves at the server when it is dropped, shut down, or interrupted.

use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_postgres::PostgresLockProvider;
use distributed_lock_testkit::servers::PostgresServer;

use crate::modes::Mode;
use crate::observer::{HELD, Observer, QUEUED, SESSIONS};
use crate::{MS, SECOND, builder, provider};

/// How soon the server has noticed that a connection was closed.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);

/// Holds and waits, so that there are sessions of both kinds.
async fn use_it(here: &PostgresLockProvider, there: &PostgresLockProvider, observer: &Observer) {
    let held = there.acquire_lock("name", None).await.unwrap();
    let waiter = here.clone();
    let waiting = tokio::spawn(async move { waiter.acquire_lock("name", None).await });
    observer.until(QUEUED, 1, 5 * SECOND).await;
    held.release().await.unwrap();
    waiting.await.unwrap().unwrap().release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_dropped_providers_leave_no_session() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    for use_transaction in [false, true] {
        let there = provider(&server).await;
        for _ in 0..10 {
            let here = builder(&server).use_transaction(use_transaction).build().await.unwrap();
            use_it(&here, &there, &observer).await;
        }
        drop(there);
        observer.until(SESSIONS, 0, CLOSED_WITHIN).await;
    }
}

/// The provider's sessions were idle for longer than they stay open, all but one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_dropped_after_a_while_leaves_no_session() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    let (here, there) = (provider(&server).await, provider(&server).await);
    use_it(&here, &there, &observer).await;
    drop(there);
    observer.until(SESSIONS, 1, 5 * SECOND).await;
    tokio::time::sleep(SECOND).await;
    drop(here);
    observer.until(SESSIONS, 0, CLOSED_WITHIN).await;
}

/// A clone that lives does not keep connections open, whatever the state of the locks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_was_shut_down_leaves_no_session_while_clones_live() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    for use_transaction in [false, true] {
        for mode in Mode::ALL {
            let there = provider(&server).await;
            let here = builder(&server).use_transaction(use_transaction).build().await.unwrap();
            let clone = here.clone();
            let held = mode.acquire(&here, "held", None).await.unwrap();
            let other = mode.opposite().acquire(&there, "other", None).await.unwrap();
            let waiting = {
                let here = here.clone();
                tokio::spawn(async move { mode.acquire(&here, "other", None).await })
            };
            observer.until(HELD, 1 + mode.granted_while_one_waits(), 5 * SECOND).await;
            tokio::time::sleep(50 * MS).await;
            assert!(here.shutdown().await.is_empty());
            assert!(held.is_lost());
            assert!(matches!(waiting.await.unwrap(), Err(LockError::Cancelled)));
            other.release().await.unwrap();
            drop(there);
            let closed = observer.until(SESSIONS, 0, CLOSED_WITHIN).await;
            println!("{mode:?}, use_transaction {use_transaction}: closed after {closed:?}");
            let refused = clone.try_acquire_lock("held").await;
            assert!(matches!(refused, Err(LockError::Cancelled)), "{refused:?}");
            drop(held);
            assert_eq!(observer.number(SESSIONS).await, 0);
        }
    }
}

/// An administrator's cancellations hit the wait, what undoes it, and whatever comes next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_49_a_wait_that_is_interrupted_again_and_again_leaves_no_ghost() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    let (here, there) = (provider(&server).await, provider(&server).await);
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity, generate_series(1, 200) \
         WHERE application_name = 'waits'";
    let here = {
        drop(here);
        builder(&server).application_name("waits").build().await.unwrap()
    };
    for round in 0..30 {
        for mode in Mode::ALL {
            let held = mode.opposite().acquire(&there, "name", None).await.unwrap();
            let waiter = here.clone();
            let waiting =
                tokio::spawn(async move { mode.acquire(&waiter, "name", Some(20 * SECOND)).await });
            observer.until(HELD, mode.granted_while_one_waits(), 5 * SECOND).await;
            let (_, released) = tokio::join!(observer.run(cancel), held.release());
            released.unwrap();
            let granted = match waiting.await.unwrap() {
                Ok(granted) => granted,
                Err(error) => panic!("round {round}, {mode:?}: {error:?}"),
            };
            granted.release().await.unwrap();
            let what = format!("round {round}, {mode:?}");
            println!("{what}");
            observer.until(HELD, 0, SECOND).await;
        }
    }
}
