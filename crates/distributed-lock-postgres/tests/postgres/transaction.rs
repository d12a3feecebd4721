//! Locks in the caller's own transaction.

use std::time::Duration;

use distributed_lock_core::Mode;
use distributed_lock_core::error::LockError;
use distributed_lock_core::prelude::*;
use distributed_lock_postgres::PostgresLockProvider;
use distributed_lock_testkit::servers::PostgresServer;
use tokio::time::Instant;
use tokio_postgres::{Client, NoTls, Transaction};

const EXCLUSIVE: Mode = Mode::Exclusive;
const SHARED: Mode = Mode::Shared;

/// Longer than anything takes that is not broken.
const LONG: Option<Duration> = Some(Duration::from_secs(20));
const SHORT: Duration = Duration::from_millis(300);
/// The default.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(2);

async fn provider() -> PostgresLockProvider {
    let url = PostgresServer::shared().url();
    PostgresLockProvider::builder().connection_string(url).build().await.unwrap()
}

/// The caller's own session.
async fn client() -> Client {
    let connected = tokio_postgres::connect(&PostgresServer::shared().url(), NoTls).await;
    let (client, connection) = connected.unwrap();
    tokio::spawn(connection);
    client
}

/// Everything that a setting can be, and that the transaction works.
async fn settings(transaction: &Transaction<'_>) -> String {
    let words =
        "SELECT string_agg(name || '=' || setting || source, ',' ORDER BY name) FROM pg_settings";
    transaction.query_one(words, &[]).await.unwrap().get(0)
}

async fn is_free(provider: &PostgresLockProvider, name: &str) -> bool {
    match provider.try_acquire_lock(name).await.unwrap() {
        Some(handle) => handle.release().await.map(|()| true).unwrap(),
        None => false,
    }
}

/// The error, which leaves the transaction usable.
async fn assert_fails<T>(transaction: &Transaction<'_>, result: LockResult<T>) -> LockError {
    transaction.simple_query("SELECT").await.unwrap();
    result.map(drop).unwrap_err()
}

#[tokio::test]
async fn a_lock_ends_with_its_transaction() {
    let (provider, mut client) = (provider().await, client().await);
    for commits in [true, false] {
        for waits in [true, false] {
            let mut transaction = client.transaction().await.unwrap();
            let before = settings(&transaction).await;
            if waits {
                provider.acquire_in(&mut transaction, "t-ends", EXCLUSIVE, LONG).await.unwrap();
            } else {
                assert!(
                    provider.try_acquire_in(&mut transaction, "t-ends", EXCLUSIVE).await.unwrap()
                );
            }
            assert_eq!(settings(&transaction).await, before);
            assert!(!is_free(&provider, "t-ends").await);
            if commits {
                transaction.commit().await.unwrap();
            } else {
                transaction.rollback().await.unwrap();
            }
            assert!(is_free(&provider, "t-ends").await);
        }
    }
}

#[tokio::test]
async fn a_lock_ends_when_its_savepoint_is_rolled_back() {
    let (provider, mut client) = (provider().await, client().await);
    let mut transaction = client.transaction().await.unwrap();
    let mut inner = transaction.transaction().await.unwrap();
    assert!(provider.try_acquire_in(&mut inner, "t-savepoint", EXCLUSIVE).await.unwrap());
    // The same transaction is not in its own way.
    provider.acquire_in(&mut inner, "t-savepoint", EXCLUSIVE, None).await.unwrap();
    inner.rollback().await.unwrap();
    assert!(is_free(&provider, "t-savepoint").await);
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn holders_elsewhere_exclude_it_and_it_them() {
    let server = PostgresServer::shared();
    let (provider, mut client) = (provider().await, client().await);
    // A provider's.
    let handle = provider.acquire_lock("t-others", None).await.unwrap();
    let mut transaction = client.transaction().await.unwrap();
    assert!(!provider.try_acquire_in(&mut transaction, "t-others", EXCLUSIVE).await.unwrap());
    assert!(!provider.try_acquire_in(&mut transaction, "t-others", SHARED).await.unwrap());
    let acquire = provider.acquire_in(&mut transaction, "t-others", EXCLUSIVE, LONG);
    let (acquired, released) = tokio::join!(acquire, async {
        tokio::time::sleep(SHORT).await;
        handle.release().await
    });
    acquired.unwrap();
    released.unwrap();
    assert!(!is_free(&provider, "t-others").await);
    // A program's, by the key.
    let key = provider.native_key("t-others").unwrap();
    let (high, low) = key.split_once(',').unwrap();
    let number = |half| u32::from_str_radix(half, 16).unwrap().cast_signed();
    let taken = format!("SELECT pg_try_advisory_lock({}, {})", number(high), number(low));
    assert_eq!(server.psql(&taken).unwrap(), "f");
    transaction.commit().await.unwrap();
    assert_eq!(server.psql(&taken).unwrap(), "t");
}

#[tokio::test]
async fn readers_share_and_permits_are_not_supported() {
    let (provider, mut one, mut other) = (provider().await, client().await, client().await);
    let mut one = one.transaction().await.unwrap();
    let mut other = other.transaction().await.unwrap();
    assert!(provider.try_acquire_in(&mut one, "t-readers", SHARED).await.unwrap());
    provider.acquire_in(&mut other, "t-readers", SHARED, LONG).await.unwrap();
    let reader = provider.create_reader_writer_lock("t-readers").try_acquire_read().await.unwrap();
    reader.unwrap().release().await.unwrap();
    assert!(!is_free(&provider, "t-readers").await);
    let permit = Mode::Permit { max: 2 };
    let refused = provider.try_acquire_in(&mut one, "t-readers", permit).await;
    assert!(matches!(assert_fails(&one, refused).await, LockError::Unsupported(_)));
    let refused = provider.acquire_in(&mut one, &"x".repeat(1025), SHARED, LONG).await;
    assert!(matches!(assert_fails(&one, refused).await, LockError::InvalidName(_)));
}

#[tokio::test]
async fn a_timeout_comes_on_time_and_leaves_the_transaction_as_it_was() {
    let (provider, mut client) = (provider().await, client().await);
    let handle = provider.acquire_lock("t-timeout", None).await.unwrap();
    let mut transaction = client.transaction().await.unwrap();
    transaction
        .batch_execute("SET LOCAL work_mem = '5MB'; CREATE TEMP TABLE mine ()")
        .await
        .unwrap();
    let before = settings(&transaction).await;
    for timeout in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(1), SHORT] {
        let began = Instant::now();
        let result =
            provider.acquire_in(&mut transaction, "t-timeout", EXCLUSIVE, Some(timeout)).await;
        let took = began.elapsed();
        assert!(took >= timeout && took < timeout + OPERATION_TIMEOUT, "{took:?} for {timeout:?}");
        match assert_fails(&transaction, result).await {
            LockError::Timeout(given) => assert_eq!(given, timeout),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(settings(&transaction).await, before);
    // Nobody is left in the queue.
    handle.release().await.unwrap();
    assert!(is_free(&provider, "t-timeout").await);
    provider.acquire_in(&mut transaction, "t-timeout", EXCLUSIVE, LONG).await.unwrap();
    transaction.execute("INSERT INTO mine DEFAULT VALUES", &[]).await.unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn limits_of_the_transaction_itself_are_its_own() {
    let (provider, mut client) = (provider().await, client().await);
    let handle = provider.acquire_lock("t-limits", None).await.unwrap();
    for limit in ["lock_timeout", "statement_timeout"] {
        let mut transaction = client.transaction().await.unwrap();
        transaction.batch_execute(&format!("SET LOCAL {limit} = '100ms'")).await.unwrap();
        let before = settings(&transaction).await;
        let result = provider.acquire_in(&mut transaction, "t-limits", EXCLUSIVE, LONG).await;
        assert!(
            matches!(assert_fails(&transaction, result).await, LockError::Backend(_)),
            "{limit}"
        );
        assert_eq!(settings(&transaction).await, before);
    }
    handle.release().await.unwrap();
}

#[tokio::test]
async fn of_two_crossed_transactions_one_is_told_of_the_deadlock() {
    let (provider, mut one, mut other) = (provider().await, client().await, client().await);
    let mut one = one.transaction().await.unwrap();
    let mut other = other.transaction().await.unwrap();
    provider.acquire_in(&mut one, "t-cross-a", EXCLUSIVE, LONG).await.unwrap();
    provider.acquire_in(&mut other, "t-cross-b", EXCLUSIVE, LONG).await.unwrap();
    let before = [settings(&one).await, settings(&other).await];
    // The one that is told goes back, and so lets the other one through.
    let cross = async |mut transaction: Transaction<'_>, name| {
        let result = provider.acquire_in(&mut transaction, name, EXCLUSIVE, LONG).await;
        let after = settings(&transaction).await;
        let told = matches!(result, Err(LockError::Deadlock(_)));
        if !told {
            result.unwrap();
        }
        transaction.execute("SELECT", &[]).await.unwrap();
        transaction.commit().await.unwrap();
        (told, after)
    };
    let (one, other) = tokio::join!(cross(one, "t-cross-b"), cross(other, "t-cross-a"));
    assert!(one.0 != other.0, "one, and only one");
    assert_eq!([one.1, other.1], before);
    assert!(is_free(&provider, "t-cross-a").await && is_free(&provider, "t-cross-b").await);
}

/// Waits are dropped around the moment at which the lock becomes free.
#[tokio::test]
async fn a_dropped_wait_ends_and_nothing_else_is_hit() {
    let (provider, mut client, watcher) = (provider().await, client().await, client().await);
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let waits = "SELECT count(*) FROM pg_locks WHERE pid = $1 AND NOT granted";
    let waits = async || watcher.query_one(waits, &[&pid]).await.unwrap().get::<_, i64>(0) > 0;
    let (mut granted, mut dropped, mut failed) = (0, 0, 0);
    for round in 0..200 {
        let handle = provider.acquire_lock("t-dropped", None).await.unwrap();
        let mut transaction = client.transaction().await.unwrap();
        let acquire = provider.acquire_in(&mut transaction, "t-dropped", EXCLUSIVE, None);
        // Every other wait is dropped while it is sure to wait, the others about when it ends.
        let ends = round % 2 == 0;
        let (mut held, mut release) = (Some(handle), None);
        let dropping = async {
            while !waits().await {}
            if ends {
                release = held.take().map(|handle| tokio::spawn(handle.release()));
                tokio::time::sleep(Duration::from_micros(round % 20 * 50)).await;
            }
        };
        tokio::select! {
            result = acquire => {
                result.unwrap();
                granted += 1;
            }
            () = dropping => {
                dropped += 1;
                // Unless the wait was over, and only its end was not.
                failed += u32::from(transaction.simple_query("SELECT").await.is_err());
            }
        }
        drop(transaction);
        // The next statements of the session.
        for _ in 0..3 {
            let next = client.batch_execute("SELECT pg_sleep(0.001)").await;
            next.unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        }
        match (held, release) {
            (Some(held), _) => held.release().await.unwrap(),
            (None, release) => release.unwrap().await.unwrap().unwrap(),
        }
        assert!(!waits().await && is_free(&provider, "t-dropped").await);
    }
    println!("granted {granted}, dropped {dropped}, of these {failed} while waiting");
    assert!(failed >= 100, "only {failed} were dropped while waiting");
}

/// Before it waits there is nothing to cancel.
#[tokio::test]
async fn a_try_that_is_dropped_leaves_nothing_when_it_is_rolled_back() {
    let (provider, mut client) = (provider().await, client().await);
    for polls in 0..3 {
        let mut transaction = client.transaction().await.unwrap();
        let mut attempt =
            Box::pin(provider.try_acquire_in(&mut transaction, "t-dropped-try", EXCLUSIVE));
        for _ in 0..polls {
            tokio::select! {
                biased;
                _ = &mut attempt => break,
                () = tokio::task::yield_now() => {}
            }
        }
        drop(attempt);
        transaction.rollback().await.unwrap();
        assert!(is_free(&provider, "t-dropped-try").await);
    }
}

#[tokio::test]
async fn a_server_that_is_silent_is_not_waited_for() {
    let server = PostgresServer::start(&[]);
    let builder = PostgresLockProvider::builder().connection_string(server.url());
    let provider = builder.operation_timeout(SHORT).build().await.unwrap();
    let (mut client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let handle = provider.acquire_lock("t-silent", None).await.unwrap();
    let mut transaction = client.transaction().await.unwrap();
    let acquire = provider.acquire_in(&mut transaction, "t-silent", EXCLUSIVE, Some(SHORT));
    let (result, ()) = tokio::join!(acquire, async {
        tokio::time::sleep(SHORT / 2).await;
        server.pause();
    });
    assert!(matches!(result, Err(LockError::Connection(_))), "{result:?}");
    let result = provider.try_acquire_in(&mut transaction, "t-silent", EXCLUSIVE).await;
    assert!(matches!(result, Err(LockError::Connection(_))), "{result:?}");
    server.resume();
    drop(transaction);
    // The wait is cancelled now, at last.
    client.batch_execute("SELECT").await.unwrap();
    handle.release().await.unwrap();
}
