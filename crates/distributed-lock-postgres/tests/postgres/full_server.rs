//! How many connections waits need, and what they do when the server has no more.

use std::time::Duration;

use distributed_lock_core::Mode;
use distributed_lock_core::prelude::*;
use distributed_lock_postgres::{PostgresLockProvider, PostgresLockProviderBuilder};
use distributed_lock_testkit::servers::PostgresServer;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::observer::{HELD, Observer, QUEUED, SESSIONS};
use crate::{MS, SECOND, provider};

/// Waiting processes of the large test, and the connections that the server has for them.
const WAITERS: usize = 250;
const CONNECTIONS: &str = "300";

/// A role for which connections can be limited, with a password that is quickly checked.
async fn as_app(server: &PostgresServer, observer: &Observer) -> PostgresLockProviderBuilder {
    let version = observer.number("SELECT current_setting('server_version_num')::int8").await;
    if version >= 160_000 {
        observer.run("SET scram_iterations = 1").await;
    }
    observer.run("CREATE ROLE app LOGIN PASSWORD 'x'").await;
    let url = format!("postgres://app:x@{}/postgres", server.address());
    PostgresLockProvider::builder().connection_string(url).operation_timeout(20 * SECOND)
}

/// Waits for the lock and releases it. There may be no room at the start, as for any newcomer.
async fn waits_as_a_process(app: PostgresLockProviderBuilder) -> LockResult<()> {
    let handle = loop {
        let waited = async { app.clone().build().await?.acquire_lock("name", None).await };
        match waited.await {
            Err(error) if error.is_retryable() => tokio::time::sleep(200 * MS).await,
            result => break result?,
        }
    };
    handle.release().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiter_has_one_connection_and_opens_its_second_late() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    let (there, here) = (provider(&server).await, provider(&server).await);
    let held = there.acquire_lock("name", None).await.unwrap();
    let permit = there.create_semaphore("name", 1).acquire(None).await.unwrap();
    let waiting = {
        let here = here.clone();
        tokio::spawn(async move { here.acquire_lock("name", None).await })
    };
    observer.until(QUEUED, 1, 5 * SECOND).await;
    assert_eq!(observer.number(SESSIONS).await, 2, "the holder's and the waiter's");
    // So that a lost answer and an index build are noticed.
    let late = observer.until(SESSIONS, 3, 30 * SECOND).await;
    println!("the second came after {late:?}");
    for _ in 0..3 {
        assert!(here.holder("name", Mode::Exclusive).await.unwrap().is_some());
    }
    assert_eq!(observer.number(SESSIONS).await, 3, "it is used for all questions");
    held.release().await.unwrap();
    waiting.await.unwrap().unwrap().release().await.unwrap();

    // Nor does the head of a semaphore's queue need another: it looks for permits on its own.
    let other = provider(&server).await;
    observer.until(SESSIONS, 2, 10 * SECOND).await;
    let waiting = {
        let semaphore = other.create_semaphore("name", 1);
        tokio::spawn(async move { semaphore.acquire(None).await })
    };
    let heads = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted";
    observer.until(heads, 2, 5 * SECOND).await;
    assert_eq!(observer.number(SESSIONS).await, 3);
    permit.release().await.unwrap();
    waiting.await.unwrap().unwrap().release().await.unwrap();
    observer.until(HELD, 0, 5 * SECOND).await;
}

/// The server has a connection for each of them, and few beside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_54_as_many_waiters_as_connections_get_the_lock_in_turn() {
    let server = PostgresServer::start(&[("max_connections", CONNECTIONS)]);
    let observer = Observer::of(&server).await;
    let app = as_app(&server, &observer).await;
    let held = app.clone().build().await.unwrap().acquire_lock("name", None).await.unwrap();
    let mut waiting = JoinSet::new();
    for number in 0..WAITERS {
        waiting.spawn(waits_as_a_process(app.clone()));
        if number % 10 == 9 {
            observer.until(QUEUED, i64::try_from(number).unwrap() + 1, 120 * SECOND).await;
        }
    }
    println!("{} sessions when all wait", observer.number(SESSIONS).await);
    // Longer than until their second sessions, for which there is no room.
    tokio::time::sleep(6 * SECOND).await;
    println!("{} sessions later", observer.number(SESSIONS).await);
    observer.until(QUEUED, i64::try_from(WAITERS).unwrap(), 60 * SECOND).await;
    let began = Instant::now();
    held.release().await.unwrap();
    while let Some(ended) = waiting.join_next().await {
        ended.unwrap().unwrap();
    }
    println!("{WAITERS} hand-overs in {:?}", began.elapsed());
    observer.until(HELD, 0, 5 * SECOND).await;
}

/// There is no connection beside the one that waits: a deadline, a grant and a question all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_54_a_wait_needs_no_second_connection() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    let app = as_app(&server, &observer).await;
    let (holder, waiter) = (app.clone().build().await.unwrap(), app.build().await.unwrap());
    let of = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'";
    observer.until(of, 0, 5 * SECOND).await;
    observer.run("ALTER ROLE app CONNECTION LIMIT 2").await;
    let held = holder.acquire_lock("name", None).await.unwrap();
    let permit = holder.create_semaphore("name", 1).acquire(None).await.unwrap();
    for _ in 0..2 {
        let began = Instant::now();
        let waited = waiter.acquire_lock("name", Some(SECOND)).await;
        assert!(matches!(waited, Err(LockError::Timeout(_))), "{waited:?}");
        println!("a deadline of 1 s: {:?}", began.elapsed());
        assert!(began.elapsed() < 5 * SECOND, "{:?}", began.elapsed());
        observer.until(QUEUED, 0, 5 * SECOND).await;
    }
    let waiting = {
        let waiter = waiter.clone();
        tokio::spawn(async move { waiter.acquire_lock("name", Some(60 * SECOND)).await })
    };
    observer.until(QUEUED, 1, 5 * SECOND).await;
    // Who holds it is not known now.
    assert!(waiter.holder("name", Mode::Exclusive).await.unwrap().is_none());
    // Beyond the time of the second session.
    tokio::time::sleep(7 * SECOND).await;
    assert_eq!(observer.number(of).await, 2);
    held.release().await.unwrap();
    waiting.await.unwrap().unwrap().release().await.unwrap();

    let semaphore = waiter.create_semaphore("name", 1);
    let waiting = tokio::spawn(async move { semaphore.acquire(Some(60 * SECOND)).await });
    observer.until(HELD, 2, 5 * SECOND).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    permit.release().await.unwrap();
    waiting.await.unwrap().unwrap().release().await.unwrap();
    observer.until(HELD, 0, 5 * SECOND).await;
    tokio::time::sleep(100 * MS).await;
}
