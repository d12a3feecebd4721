//! Who waits in the server's queue, what that costs, and in which order it ends.

use std::sync::{Arc, Mutex};

use distributed_lock_core::prelude::*;
use distributed_lock_postgres::PostgresLockProvider;
use distributed_lock_testkit::proxy::FaultProxy;
use distributed_lock_testkit::servers::PostgresServer;
use tokio::time::Instant;

use crate::observer::{HELD, Observer, QUEUED};
use crate::{MS, SECOND, provider};

const WAITERS: usize = 100;
const PROCESSES: usize = 20;

/// For how long requests are counted.
const COUNTED_FOR: u32 = 6;

async fn by(proxy: &FaultProxy, server: &PostgresServer) -> PostgresLockProvider {
    let url = server.url_by(proxy.port());
    PostgresLockProvider::builder().connection_string(url).build().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_waiting_tasks_are_one_waiting_session_that_does_not_poll() {
    let server = PostgresServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    let observer = Observer::of(&server).await;
    let (here, there) = (by(&proxy, &server).await, provider(&server).await);
    let held = there.acquire_lock("name", None).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for number in 0..WAITERS {
        let (here, order) = (here.clone(), Arc::clone(&order));
        let (began, beginning) = tokio::sync::oneshot::channel();
        waiting.push(tokio::spawn(async move {
            began.send(()).unwrap();
            let handle = here.acquire_lock("name", None).await.unwrap();
            order.lock().unwrap().push(number);
            handle.release().await.unwrap();
        }));
        beginning.await.unwrap();
    }
    observer.until(QUEUED, 1, SECOND).await;
    // What the beginning needs is over.
    tokio::time::sleep(500 * MS).await;
    let before = proxy.requests();
    tokio::time::sleep(COUNTED_FOR * SECOND).await;
    let asked = proxy.requests() - before;
    println!("{asked} requests in {COUNTED_FOR} s");
    assert!(asked <= u64::from(COUNTED_FOR), "{asked} requests in {COUNTED_FOR} s");
    assert_eq!(observer.number(QUEUED).await, 1);
    let began = Instant::now();
    held.release().await.unwrap();
    for waiting in waiting {
        waiting.await.unwrap();
    }
    println!("{WAITERS} waiters served in {:?}", began.elapsed());
    assert_eq!(order.lock().unwrap().len(), WAITERS);
    observer.until(HELD, 0, SECOND).await;
}

/// Each process has one place, and holds for a moment when it is its turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_processes_are_served_in_the_order_of_their_places() {
    let server = PostgresServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    let observer = Observer::of(&server).await;
    let there = provider(&server).await;
    let held = there.acquire_lock("name", None).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for number in 0..PROCESSES {
        let (here, order) = (by(&proxy, &server).await, Arc::clone(&order));
        waiting.push(tokio::spawn(async move {
            let handle = here.acquire_lock("name", None).await.unwrap();
            order.lock().unwrap().push(number);
            handle.release().await.unwrap();
            here
        }));
        observer.until(QUEUED, i64::try_from(number).unwrap() + 1, SECOND).await;
    }
    let before = proxy.requests();
    let began = Instant::now();
    held.release().await.unwrap();
    let mut processes = Vec::new();
    for waiting in waiting {
        processes.push(waiting.await.unwrap());
    }
    let (took, asked) = (began.elapsed(), proxy.requests() - before);
    println!("{PROCESSES} hand-overs in {took:?}, {asked} requests");
    assert_eq!(*order.lock().unwrap(), (0..PROCESSES).collect::<Vec<_>>());
    assert!(asked <= 4 * u64::try_from(PROCESSES).unwrap(), "{asked} requests");
    observer.until(HELD, 0, SECOND).await;
}
