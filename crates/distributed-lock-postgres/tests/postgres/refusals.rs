//! What the server, or the provider's own limits, refuse.

use std::error::Error;

use distributed_lock_core::prelude::*;
use distributed_lock_postgres::{LockTableFull, Standby, TooManyLocks, TooManySessions};
use distributed_lock_testkit::servers::PostgresServer;

use crate::observer::{HELD, Observer, QUEUED};
use crate::{MS, SECOND, builder, provider};

/// The refusal of this kind, which says what to do.
fn refusal<E: Error + 'static>(error: &LockError, advice: &str) {
    assert!(matches!(error, LockError::Backend(_)) && error.is_retryable(), "{error:?}");
    let Some(refusal) = error.find_source::<E>() else { panic!("{error:?}") };
    let said = refusal.to_string();
    assert!(said.contains(advice), "{said:?} without {advice:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_14_a_full_lock_table_is_an_error_and_holds_nothing() {
    // Of its small table there is more than it promises: memory that nobody else has asked for.
    let server = PostgresServer::start(&[
        ("max_locks_per_transaction", "10"),
        ("max_connections", "10"),
        ("max_wal_senders", "0"),
        ("autovacuum", "off"),
    ]);
    let observer = Observer::of(&server).await;
    // Its statements would need room, too, but for those that it has asked before.
    let here = builder(&server)
        .max_held(1_000_000)
        .max_locks_per_session(1_000_000)
        .build()
        .await
        .unwrap();
    let mut held = Vec::new();
    let error = loop {
        match here.try_acquire_lock(&format!("name {}", held.len())).await {
            Ok(handle) => held.push(handle.unwrap()),
            Err(error) => break error,
        }
        assert!(held.len() < 100_000, "a table without an end");
    };
    println!("{} locks fit", held.len());
    refusal::<LockTableFull>(&error, "max_locks_per_transaction");
    let waited = here.acquire_lock("one more", Some(SECOND)).await;
    refusal::<LockTableFull>(&waited.unwrap_err(), "max_locks_per_transaction");
    // Room for the question what is held.
    let many = held.len();
    for handle in held.drain(many - 50..) {
        handle.release().await.unwrap();
    }
    observer.until(HELD, i64::try_from(held.len()).unwrap(), SECOND).await;
    assert!(held.iter().all(|handle| !handle.is_lost()));
    here.acquire_lock("one more", Some(SECOND)).await.unwrap().release().await.unwrap();
    for handle in held {
        handle.release().await.unwrap();
    }
    observer.until(HELD, 0, SECOND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_14_more_locks_than_max_held_are_an_error() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    let here = builder(&server).max_held(2).build().await.unwrap();
    let one = here.acquire_lock("one", None).await.unwrap();
    let two = here.acquire_lock("two", None).await.unwrap();
    let tried = here.try_acquire_lock("three").await;
    refusal::<TooManyLocks>(&tried.unwrap_err(), "max_held");
    let waited = here.acquire_lock("three", Some(SECOND)).await;
    refusal::<TooManyLocks>(&waited.unwrap_err(), "max_held");
    let permit = here.create_semaphore("three", 3).try_acquire().await;
    refusal::<TooManyLocks>(&permit.unwrap_err(), "max_held");
    assert_eq!(observer.number(HELD).await, 2);
    one.release().await.unwrap();
    let three = here.try_acquire_lock("three").await.unwrap().unwrap();
    for handle in [two, three] {
        handle.release().await.unwrap();
    }
    observer.until(HELD, 0, SECOND).await;
}

/// A default `max_held` leaves half the table to everybody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_14_a_provider_takes_half_the_lock_table_at_most() {
    let server = PostgresServer::start(&[
        ("max_locks_per_transaction", "10"),
        ("max_connections", "20"),
        ("max_prepared_transactions", "4"),
    ]);
    let here = provider(&server).await;
    let mut held = Vec::new();
    let error = loop {
        match here.try_acquire_lock(&format!("name {}", held.len())).await {
            Ok(handle) => held.push(handle.unwrap()),
            Err(error) => break error,
        }
    };
    assert_eq!(held.len(), 10 * (20 + 4) / 2);
    refusal::<TooManyLocks>(&error, "max_held");
}

/// In transactions each lock needs a session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_14_more_locks_in_transactions_than_sessions_are_an_error() {
    let server = PostgresServer::start(&[]);
    let builder = builder(&server).use_transaction(true).max_sessions(2).max_waiting_sessions(0);
    let here = builder.build().await.unwrap();
    let one = here.acquire_lock("one", None).await.unwrap();
    let _two = here.acquire_lock("two", None).await.unwrap();
    let tried = here.try_acquire_lock("three").await;
    refusal::<TooManySessions>(&tried.unwrap_err(), "max_sessions");
    one.release().await.unwrap();
    here.acquire_lock("three", Some(SECOND)).await.unwrap().release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_14_a_standby_is_refused() {
    let server = PostgresServer::builder().standby().start();
    let error = builder(&server).build().await.unwrap_err();
    refusal::<Standby>(&error, "target_session_attrs=read-write");
}

/// As many sessions wait as may: the next waits all the same, and looks once a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_waiters_than_waiting_sessions_wait_their_turn() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    let here = builder(&server).max_waiting_sessions(1).build().await.unwrap();
    let there = provider(&server).await;
    let names = ["one", "two", "three"];
    let mut held = Vec::new();
    let mut waiting = Vec::new();
    for name in names {
        held.push(there.acquire_lock(name, None).await.unwrap());
    }
    for name in names {
        let here = here.clone();
        waiting.push(tokio::spawn(async move { here.acquire_lock(name, None).await.unwrap() }));
    }
    observer.until(QUEUED, 1, SECOND).await;
    tokio::time::sleep(100 * MS).await;
    assert_eq!(observer.number(QUEUED).await, 1);
    for handle in held {
        handle.release().await.unwrap();
    }
    for waiting in waiting {
        let granted = tokio::time::timeout(3 * SECOND, waiting).await.unwrap().unwrap();
        granted.release().await.unwrap();
    }
    observer.until(HELD, 0, SECOND).await;
}

/// Whatever drives the future, it is told instead of a panic.
#[test]
fn row_63_a_provider_is_not_built_outside_a_runtime() {
    let builder = builder(PostgresServer::shared());
    let mut build = std::pin::pin!(builder.build());
    let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
    match std::future::Future::poll(build.as_mut(), context) {
        std::task::Poll::Ready(Err(LockError::Config(reason))) => {
            assert!(reason.contains("runtime"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}
