//! The server's clock is wrong: nobody's timeouts depend on it.

use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_testkit::servers::{ClockShift, PostgresServer, Toward};
use tokio::time::Instant;

use crate::observer::{Observer, QUEUED};
use crate::{MS, SECOND, builder};

const HOUR: Duration = Duration::from_secs(3600);
const WAITS: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_13_a_clock_that_jumps_during_a_wait_changes_nothing() {
    let clock = ClockShift::new();
    let server = PostgresServer::builder().envs(clock.env()).start();
    let observer = Observer::of(&server).await;
    let new = || builder(&server).keepalive_cadence(200 * MS).build();
    let (here, there) = (new().await.unwrap(), new().await.unwrap());
    let held = there.acquire_lock("name", None).await.unwrap();
    let seconds = "SELECT extract(epoch FROM clock_timestamp())::int8";
    for toward in [Toward::Future, Toward::Past] {
        let right = observer.number(seconds).await;
        let waiter = here.clone();
        let began = Instant::now();
        let waiting = tokio::spawn(async move { waiter.acquire_lock("name", Some(WAITS)).await });
        observer.until(QUEUED, 1, SECOND).await;
        clock.set(HOUR, toward);
        let wrong = observer.number(seconds).await;
        assert!((wrong - right).abs() > 3000, "{right} to {wrong}");
        let waited = waiting.await.unwrap();
        let took = began.elapsed();
        println!("{toward:?}: {took:?}");
        assert!(matches!(waited, Err(LockError::Timeout(_))), "{waited:?}");
        assert!(took >= WAITS && took <= WAITS + SECOND, "{took:?}");
        assert!(!held.is_lost());
        clock.reset();
    }
    let waiting = tokio::spawn(async move { here.acquire_lock("name", None).await });
    observer.until(QUEUED, 1, SECOND).await;
    clock.set(HOUR, Toward::Past);
    held.release().await.unwrap();
    let granted = tokio::time::timeout(SECOND, waiting).await.unwrap().unwrap().unwrap();
    granted.release().await.unwrap();
}
