//! Requests for a lock in the caller's transaction that are dropped: nothing is committed without the
//! lock.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use distributed_lock_core::Mode;
use distributed_lock_core::error::LockError;
use distributed_lock_core::prelude::*;
use distributed_lock_postgres::PostgresLockProvider;
use distributed_lock_testkit::servers::PostgresServer;
use tokio_postgres::{Client, NoTls};

use crate::observer::{HELD, Observer, QUEUED};
use crate::{MS, SECOND, provider};

/// Longer than an answer takes.
const PACE: Duration = Duration::from_millis(2);

/// More polls than a request needs that is not left waiting.
const ENOUGH: usize = 300;

/// What happens around a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    Free,
    /// Held for longer than the request waits.
    TimesOut,
    /// Held until the request waits.
    IsGranted,
    /// Held, and only tried.
    IsRefused,
}

/// What the caller does after it has dropped the request.
#[derive(Debug, Clone, Copy)]
enum Next {
    Commits,
    TriesAgain,
    AcquiresAgain,
}

async fn client(server: &PostgresServer) -> Client {
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    // Its end shows in the next statement.
    tokio::spawn(async move { drop(connection.await) });
    client
}

/// Polls once, woken up or not.
fn poll<T>(future: &mut Pin<Box<dyn Future<Output = T> + Send + '_>>) -> Poll<T> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Drops a request after so many polls and commits all the same; whether the request had completed.
async fn drop_after(
    polls: usize,
    (story, next): (Story, Next),
    (here, there): (&PostgresLockProvider, &PostgresLockProvider),
    client: &mut Client,
    observer: &Observer,
) -> bool {
    let mut held = match story {
        Story::Free => None,
        _ => Some(there.acquire_lock("name", Some(SECOND)).await.unwrap()),
    };
    let mut transaction = client.transaction().await.unwrap();
    transaction.execute("INSERT INTO written DEFAULT VALUES", &[]).await.unwrap();
    let timeout = Some(if story == Story::TimesOut { 20 * MS } else { 20 * SECOND });
    let mut request: Pin<Box<dyn Future<Output = LockResult<bool>> + Send + '_>> =
        if story == Story::IsRefused {
            Box::pin(here.try_acquire_in(&mut transaction, "name", Mode::Exclusive))
        } else {
            let acquire = here.acquire_in(&mut transaction, "name", Mode::Exclusive, timeout);
            Box::pin(async { acquire.await.map(|()| true) })
        };
    let mut outcome = None;
    for poll_number in 0..polls {
        if let Poll::Ready(result) = poll(&mut request) {
            outcome = Some(result);
            break;
        }
        if story == Story::IsGranted
            && poll_number >= 3
            && let Some(held) = held.take()
        {
            held.release().await.unwrap();
        }
        tokio::time::sleep(PACE).await;
    }
    drop(request);
    if outcome.is_none() {
        // Refused, or granted anew: the transaction has failed all the same.
        match next {
            Next::Commits => {}
            Next::TriesAgain => {
                drop(here.try_acquire_in(&mut transaction, "name", Mode::Exclusive).await);
            }
            Next::AcquiresAgain => {
                let again =
                    here.acquire_in(&mut transaction, "name", Mode::Exclusive, Some(10 * MS));
                drop(again.await);
            }
        }
    }
    // The server answers a commit of a failed transaction with a rollback.
    transaction.commit().await.unwrap();
    let written = observer.number("SELECT count(*) FROM written").await;
    let what = format!("{story:?}, {next:?}, dropped after {polls} polls");
    match &outcome {
        None => assert_eq!(written, 0, "{what}: committed without the lock"),
        Some(Ok(_)) => assert_eq!(written, 1, "{what}: {outcome:?}"),
        Some(Err(LockError::Timeout(_))) => {
            assert_eq!(written, 1, "{what}: usable after a timeout");
        }
        Some(Err(error)) => panic!("{what}: {error:?}"),
    }
    observer.run("DELETE FROM written").await;
    drop(held);
    observer.until(QUEUED, 0, SECOND).await;
    observer.until(HELD, 0, SECOND).await;
    // The session's next statement is not hit.
    client.batch_execute("SELECT pg_sleep(0.001)").await.unwrap();
    outcome.is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_49_a_request_that_is_dropped_after_any_poll_fails_its_transaction() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    observer.run("CREATE TABLE written (at timestamptz DEFAULT now())").await;
    let (here, there) = (provider(&server).await, provider(&server).await);
    let mut client = client(&server).await;
    let mut cases = 0;
    for next in [Next::Commits, Next::TriesAgain, Next::AcquiresAgain] {
        for story in [Story::Free, Story::TimesOut, Story::IsGranted, Story::IsRefused] {
            // An async closure would borrow the client for all cases at once.
            for polls in 0..ENOUGH {
                let (case, both) = ((story, next), (&here, &there));
                cases += 1;
                if drop_after(polls, case, both, &mut client, &observer).await {
                    break;
                }
                assert!(polls + 1 < ENOUGH, "{story:?}, {next:?} does not end");
            }
        }
    }
    println!("{cases} cases");
    assert!(cases > 40, "{cases} cases are not what was meant");
}

/// The transaction's own savepoints: rolled back to one of before, it goes on without the lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_can_be_rolled_back_to_a_savepoint_of_before_a_dropped_request() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    observer.run("CREATE TABLE written (at timestamptz DEFAULT now())").await;
    let (here, there) = (provider(&server).await, provider(&server).await);
    let held = there.acquire_lock("name", None).await.unwrap();
    let mut client = client(&server).await;
    let mut transaction = client.transaction().await.unwrap();
    transaction.execute("INSERT INTO written DEFAULT VALUES", &[]).await.unwrap();
    let mut inner = transaction.savepoint("mine").await.unwrap();
    inner.execute("INSERT INTO written DEFAULT VALUES", &[]).await.unwrap();
    let wait = here.acquire_in(&mut inner, "name", Mode::Exclusive, None);
    assert!(tokio::time::timeout(50 * MS, wait).await.is_err());
    assert!(inner.execute("INSERT INTO written DEFAULT VALUES", &[]).await.is_err());
    inner.rollback().await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(observer.number("SELECT count(*) FROM written").await, 1);
    held.release().await.unwrap();
}
