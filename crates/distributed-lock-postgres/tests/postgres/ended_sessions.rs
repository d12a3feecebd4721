//! Sessions that the server ends: by an administrator, by a crash, by a restart.

use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_postgres::PostgresLockProvider;
use distributed_lock_testkit::outage;
use distributed_lock_testkit::servers::{PostgresServer, Signal};
use tokio::time::Instant;

use crate::observer::{HELD, HOLDERS, Observer, QUEUED};
use crate::{MS, SECOND, provider};

/// "Seconds": how soon a provider works again once its server does.
const WORKS_AGAIN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_7_a_terminated_session_is_told_within_a_second_and_touches_nobody() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    let (here, there) = (provider(&server).await, provider(&server).await);
    let handle = here.acquire_lock("name", None).await.unwrap();
    let victim = observer.number(HOLDERS).await;
    let elsewhere = there.acquire_lock("elsewhere", None).await.unwrap();
    let waiting = {
        let there = there.clone();
        tokio::spawn(async move { there.acquire_lock("name", None).await })
    };
    observer.until(QUEUED, 1, SECOND).await;
    let terminated = Instant::now();
    observer.run(&format!("SELECT pg_terminate_backend({victim})")).await;
    tokio::time::timeout(SECOND, handle.lost_token().cancelled()).await.unwrap();
    println!("told after {:?}", terminated.elapsed());
    assert!(handle.is_lost());
    let next = waiting.await.unwrap().unwrap();
    let released = handle.release().await;
    assert!(matches!(released, Err(LockError::LockLost(_))), "{released:?}");
    // The next holder's lock and the other one are as they were.
    assert_eq!(observer.number(HELD).await, 2);
    assert!(!next.is_lost() && !elsewhere.is_lost());
    assert!(here.try_acquire_lock("name").await.unwrap().is_none());
    next.release().await.unwrap();
    elsewhere.release().await.unwrap();
}

/// A waiter that is terminated takes a new place; one whose statement is cancelled, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_7_a_waiter_that_an_administrator_interrupts_waits_again() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    let (here, there) = (provider(&server).await, provider(&server).await);
    let held = there.acquire_lock("name", None).await.unwrap();
    let waiting = {
        let here = here.clone();
        tokio::spawn(async move { here.acquire_lock("name", None).await })
    };
    for end in ["pg_terminate_backend", "pg_cancel_backend", "pg_terminate_backend"] {
        observer.until(QUEUED, 1, WORKS_AGAIN).await;
        let interrupt =
            format!("SELECT {end}(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted");
        observer.run(&interrupt).await;
    }
    observer.until(QUEUED, 1, WORKS_AGAIN).await;
    held.release().await.unwrap();
    waiting.await.unwrap().unwrap().release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_8_a_crash_of_another_backend_is_told_and_the_provider_works_again() {
    let server = PostgresServer::start(&[("restart_after_crash", "on")]);
    let here = provider(&server).await;
    let handle = here.acquire_lock("name", None).await.unwrap();
    let held = handle.lost_token().clone();
    let waiting = waits(&here, &server).await;
    let another: i32 = {
        let observer = Observer::of(&server).await;
        i32::try_from(observer.number("SELECT pg_backend_pid()::int8").await).unwrap()
    };
    // Perhaps it is gone with its observer; any other crash does as well.
    let checkpointer = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
    let victim = server.psql(checkpointer).unwrap().trim().parse().unwrap_or(another);
    let crashed = Instant::now();
    server.signal_backend(victim, Signal::KILL);
    tokio::time::timeout(SECOND, held.cancelled()).await.unwrap();
    println!("told after {:?}", crashed.elapsed());
    let released = handle.release().await;
    assert!(matches!(released, Err(LockError::LockLost(_))), "{released:?}");
    works_again(&here, crashed).await;
    // Both waited for the same lock, on a server that knows nothing of it now.
    waiting.await.unwrap().unwrap().release().await.unwrap();
    println!("the waiter was granted after {:?}", crashed.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_8_the_provider_outlives_a_killed_server() {
    let server = PostgresServer::start(&[]);
    let here = provider(&server).await;
    let handle = here.acquire_lock("name", None).await.unwrap();
    let waiting = waits(&here, &server).await;
    let killed = Instant::now();
    server.kill();
    tokio::time::timeout(SECOND, handle.lost_token().cancelled()).await.unwrap();
    println!("told after {:?}", killed.elapsed());
    let refused = here.try_acquire_lock("other").await;
    assert!(matches!(refused, Err(LockError::Connection(_))), "{refused:?}");
    server.restart();
    works_again(&here, Instant::now()).await;
    waiting.await.unwrap().unwrap().release().await.unwrap();
}

/// Somebody waits for what another provider holds.
async fn waits(
    here: &PostgresLockProvider,
    server: &PostgresServer,
) -> tokio::task::JoinHandle<LockResult<impl LockHandle + use<>>> {
    let there = provider(server).await;
    let held = there.acquire_lock("elsewhere", None).await.unwrap();
    let here = here.clone();
    let waiting = tokio::spawn(async move {
        let waited = here.acquire_lock("elsewhere", Some(30 * SECOND)).await;
        drop(held);
        waited
    });
    let observer = Observer::of(server).await;
    observer.until(QUEUED, 1, SECOND).await;
    waiting
}

async fn works_again(here: &PostgresLockProvider, since: Instant) {
    loop {
        match here.try_acquire_lock("name").await {
            Ok(granted) => {
                granted.unwrap().release().await.unwrap();
                return println!("works again after {:?}", since.elapsed());
            }
            Err(LockError::Connection(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
        assert!(since.elapsed() <= WORKS_AGAIN, "not again after {:?}", since.elapsed());
        tokio::time::sleep(20 * MS).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_50_waits_behind_the_own_process_survive_a_restart() {
    let server = PostgresServer::start(&[]);
    let here = PostgresLockProvider::builder().connection_string(server.url()).build().await;
    outage::waits_survive(&here.unwrap(), async || {
        server.kill();
        tokio::time::sleep(3 * SECOND).await;
        server.restart();
    })
    .await;
}
