//! Runtimes that are not driven, blocked, or changed while a request is under way.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use distributed_lock_core::Mode as Form;
use distributed_lock_core::error::LockError;
use distributed_lock_core::prelude::*;
use distributed_lock_testkit::servers::PostgresServer;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;
use tokio_postgres::{Client, NoTls};

use crate::modes::Mode;
use crate::observer::{HELD, Observer, QUEUED};
use crate::{MS, SECOND, builder, provider};

/// What a waiter has by its timeout.
const TIMEOUT: Duration = Duration::from_millis(300);

/// The timeout of a wait that is moved: longer than it takes to begin on a loaded machine.
const MOVED_TIMEOUT: Duration = Duration::from_secs(1);

/// How soon what a runtime has left behind is gone: the library thread takes over after a moment.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(2);

/// An operation timeout, and what a test allows.
const OPERATION: Duration = Duration::from_millis(2500);

fn synchronous() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A runtime that is driven by its own threads whatever this one does.
fn beside() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn client(server: &PostgresServer) -> Client {
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    // Its end shows in the next statement.
    tokio::spawn(async move { drop(connection.await) });
    client
}

/// Polls once, on this runtime.
fn poll_once<T>(runtime: &Runtime, future: &mut Pin<Box<impl Future<Output = T> + ?Sized>>) {
    let _context = runtime.enter();
    let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending(), "it has ended at once");
}

/// Drives a wait that began at that moment to its end: not before its timeout, and soon after.
fn end_on<T>(runtime: &Runtime, wait: Pin<Box<impl Future<Output = T>>>, began: Instant) -> T {
    let limit = MOVED_TIMEOUT + OPERATION;
    let ended = runtime.block_on(async { tokio::time::timeout(limit, wait).await });
    let took = began.elapsed();
    assert!(took >= MOVED_TIMEOUT, "ended early, after {took:?}");
    ended.unwrap_or_else(|_| panic!("its deadline is lost: it still waits after {took:?}"))
}

/// A program without a runtime of its own thread: it waits until its timeout, does something else, and
/// then does synchronous work.
#[test]
fn row_49_a_wait_that_timed_out_in_a_synchronous_program_takes_no_lock() {
    let (server, beside) = (PostgresServer::start(&[]), beside());
    let (there, observer) =
        beside.block_on(async { (provider(&server).await, Observer::of(&server).await) });
    for use_transaction in [false, true] {
        for mode in Mode::ALL {
            let what = format!("{mode:?}, use_transaction {use_transaction}");
            let runtime = synchronous();
            let built = builder(&server).use_transaction(use_transaction).build();
            let here = runtime.block_on(built).unwrap();
            for round in 0..2 {
                let held = mode.opposite().acquire(&there, "name", None);
                let held = beside.block_on(held).unwrap();
                let waited = runtime.block_on(mode.acquire(&here, "name", Some(TIMEOUT)));
                assert!(matches!(waited, Err(LockError::Timeout(_))), "{what}: {waited:?}");
                let other = runtime.block_on(here.try_acquire_lock("other")).unwrap().unwrap();
                // Synchronous work from here on.
                beside.block_on(async {
                    tokio::time::sleep(round * 50 * MS).await;
                    held.release().await.unwrap();
                    let next = mode.opposite().acquire(&there, "name", Some(TAKEN_OVER_WITHIN));
                    let next = next.await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
                    next.release().await.unwrap();
                    observer.until(QUEUED, 0, TAKEN_OVER_WITHIN).await;
                    observer.until(HELD, 1, TAKEN_OVER_WITHIN).await;
                });
                drop(other);
                beside.block_on(observer.until(HELD, 0, TAKEN_OVER_WITHIN));
            }
        }
    }
}

/// The same in the caller's transaction: its own connection is not driven either.
#[test]
fn row_49_a_wait_that_was_dropped_in_a_synchronous_program_is_cancelled() {
    let (server, beside) = (PostgresServer::start(&[]), beside());
    let (there, observer) =
        beside.block_on(async { (provider(&server).await, Observer::of(&server).await) });
    let runtime = synchronous();
    let (here, mut client) =
        runtime.block_on(async { (provider(&server).await, client(&server).await) });
    for round in 0..3 {
        let held = beside.block_on(there.acquire_lock("name", Some(SECOND))).unwrap();
        let mut transaction = runtime.block_on(client.transaction()).unwrap();
        let dropped = runtime.block_on(async {
            let wait = here.acquire_in(&mut transaction, "name", Form::Exclusive, None);
            tokio::time::timeout(TIMEOUT, wait).await
        });
        assert!(dropped.is_err());
        // Synchronous work from here on.
        beside.block_on(observer.until(QUEUED, 0, TAKEN_OVER_WITHIN));
        beside.block_on(held.release()).unwrap();
        let next = runtime.block_on(transaction.batch_execute("SELECT"));
        assert!(next.is_err(), "round {round}");
        drop(transaction);
        // The session's next statements are not hit.
        runtime.block_on(client.batch_execute("SELECT pg_sleep(0.3)")).unwrap();
        beside.block_on(observer.until(HELD, 0, SECOND));
    }
}

/// An acquire that is polled on one runtime and then on another keeps its deadline, whether the first
/// has ended or is only not driven.
#[test]
fn an_acquire_that_moves_to_another_runtime_keeps_its_deadline() {
    let (server, beside) = (PostgresServer::start(&[]), beside());
    let there = beside.block_on(provider(&server));
    for has_ended in [false, true] {
        for mode in Mode::ALL {
            let held = mode.opposite().acquire(&there, "name", None);
            let held = beside.block_on(held).unwrap();
            let (first, second) = (synchronous(), synchronous());
            let here = first.block_on(provider(&server));
            let began = Instant::now();
            let mut acquire = Box::pin(mode.acquire(&here, "name", Some(MOVED_TIMEOUT)));
            // Established as a waiter, or nearly.
            for _ in 0..5 {
                poll_once(&first, &mut acquire);
                first.block_on(async { tokio::time::sleep(20 * MS).await });
            }
            let first = (!has_ended).then_some(first);
            let result = end_on(&second, acquire, began);
            let what = format!("{mode:?}, the first has ended: {has_ended}");
            assert!(matches!(result, Err(LockError::Timeout(_))), "{what}: {result:?}");
            beside.block_on(held.release()).unwrap();
            drop(first);
        }
    }
}

/// The same for a wait in the caller's transaction.
#[test]
fn a_wait_in_a_transaction_that_moves_to_another_runtime_keeps_its_deadline() {
    let (server, beside) = (PostgresServer::start(&[]), beside());
    let there = beside.block_on(provider(&server));
    for has_ended in [false, true] {
        let held = beside.block_on(there.acquire_lock("name", None)).unwrap();
        // The caller's own connection is driven all the time.
        let mut client = beside.block_on(client(&server));
        let mut transaction = beside.block_on(client.transaction()).unwrap();
        let (first, second) = (synchronous(), synchronous());
        let here = first.block_on(provider(&server));
        let began = Instant::now();
        let wait = here.acquire_in(&mut transaction, "name", Form::Exclusive, Some(MOVED_TIMEOUT));
        let mut wait = Box::pin(wait);
        for _ in 0..5 {
            poll_once(&first, &mut wait);
            first.block_on(async { tokio::time::sleep(20 * MS).await });
        }
        let first = (!has_ended).then_some(first);
        let result = end_on(&second, wait, began);
        let what = format!("the first has ended: {has_ended}");
        assert!(matches!(result, Err(LockError::Timeout(_))), "{what}: {result:?}");
        second.block_on(transaction.batch_execute("SELECT")).unwrap();
        drop(transaction);
        beside.block_on(held.release()).unwrap();
        drop(first);
    }
}

/// A first acquire, polled once and left alone while it connects or prepares, holds up no acquire of
/// another name, whose operation timeout it would use up.
#[test]
fn row_51_an_acquire_that_is_left_alone_while_it_connects_holds_up_no_other_name() {
    let (server, beside) = (PostgresServer::start(&[]), beside());
    for mode in Mode::ALL {
        for polls in 1..8 {
            let what = format!("{mode:?}, left alone after {polls} polls");
            let here = beside.block_on(provider(&server));
            let mut alone = Box::pin(mode.acquire(&here, "alone", None));
            for _ in 0..polls {
                let _context = beside.enter();
                let polled = alone.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                if polled.is_ready() {
                    break;
                }
                beside.block_on(async { tokio::time::sleep(MS).await });
            }
            for other in Mode::ALL {
                let began = Instant::now();
                let acquired = beside.block_on(other.acquire(&here, "another", None));
                let acquired = acquired.unwrap_or_else(|error| panic!("{what}: {error:?}"));
                assert!(began.elapsed() <= SECOND, "{what}: {:?}", began.elapsed());
                beside.block_on(acquired.release()).unwrap();
            }
            // Readers and permits of the name itself share what the first has begun.
            if mode == Mode::Read {
                let began = Instant::now();
                let acquired = beside.block_on(mode.acquire(&here, "alone", None));
                drop(acquired.unwrap_or_else(|error| panic!("{what}: {error:?}")));
                assert!(began.elapsed() <= SECOND, "{what}: {:?}", began.elapsed());
            }
            drop(alone);
        }
    }
}
