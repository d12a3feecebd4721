//! Holders that are killed and stopped.

use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_testkit::proxy::FaultProxy;
use distributed_lock_testkit::servers::RedisServer;
use tokio::runtime::Runtime;

use crate::worker::{Worker, say, told};
use crate::{MS, SECOND, freed, leased, provider};

const LEASE: Duration = SECOND;

/// Holds the mutex, says its token, and when asked says whether it is lost.
pub(crate) fn hold(runtime: &Runtime, url: &str) {
    let handle = runtime.block_on(async {
        let handle = leased(url, LEASE).await.acquire_lock("held", None).await.unwrap();
        say(&handle.fencing_token().await.unwrap().to_string());
        // The keeper goes on meanwhile.
        tokio::task::spawn_blocking(told).await.unwrap();
        handle
    });
    say(&handle.is_lost().to_string());
    while told().is_some() {}
}

/// Holds two permits of three.
pub(crate) fn hold_permits(runtime: &Runtime, url: &str) {
    runtime.block_on(async {
        let semaphore = leased(url, LEASE).await.create_semaphore("permits", 3);
        let _held =
            (semaphore.acquire(None).await.unwrap(), semaphore.acquire(None).await.unwrap());
        say("held");
        tokio::task::spawn_blocking(|| while told().is_some() {}).await.unwrap();
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_1_the_next_follows_a_killed_holder_after_its_lease() {
    let server = RedisServer::start(&[]);
    let mut holder = Worker::start("holder", &server.url());
    holder.hears();
    let here = provider(&server.url()).await;
    // It is renewed while the holder lives.
    let outlived = here.acquire_lock("held", Some(LEASE * 2)).await;
    assert!(matches!(outlived, Err(LockError::Timeout(_))));
    holder.kill();
    let took = freed(&here, "held", LEASE + SECOND).await;
    println!("free {took:?} after the kill");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_2_a_stopped_holder_knows_at_once_that_it_has_lost() {
    let server = RedisServer::start(&[]);
    let mut holder = Worker::start("holder", &server.url());
    let first: u64 = holder.hears().parse().unwrap();
    holder.stop();
    let here = provider(&server.url()).await;
    let next = here.acquire_lock("held", Some(LEASE + SECOND)).await.unwrap();
    let second = next.fencing_token().await.unwrap().0;
    holder.tell("are you lost?");
    holder.go_on();
    assert_eq!(holder.hears(), "true", "the first question after it went on");
    assert!(first < second, "a resource that has seen {second} would take a write with {first}");
    next.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_38_permits_of_killed_holders_return() {
    let server = RedisServer::start(&[]);
    let here = provider(&server.url()).await;
    let semaphore = here.create_semaphore("permits", 3);
    for _ in 0..3 {
        let mut holder = Worker::start("permit holder", &server.url());
        assert_eq!(holder.hears(), "held");
        // The third one is renewed here for longer than those of the dead last.
        let third = semaphore.try_acquire().await.unwrap().expect("the third permit");
        assert!(semaphore.try_acquire().await.unwrap().is_none(), "a fourth permit");
        holder.kill();
        let mut returned = Vec::new();
        for _ in 0..2 {
            returned.push(semaphore.acquire(Some(LEASE + SECOND)).await.unwrap());
        }
        assert!(semaphore.try_acquire().await.unwrap().is_none(), "a fourth permit");
        assert!(!third.is_lost());
        for handle in returned {
            handle.release().await.unwrap();
        }
        third.release().await.unwrap();
    }
}

/// A reader that died does not live on others' renewals, and does not keep a writer out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_reader_has_a_lease_of_its_own() {
    let server = RedisServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    let lives = provider(&server.url()).await;
    let dies = provider(&server.url_by(proxy.port())).await;
    let renewed = lives.create_reader_writer_lock("read").acquire_read(None).await.unwrap();
    let dead = dies.create_reader_writer_lock("read").acquire_read(None).await.unwrap();
    // As if its process were gone: nothing renews it and nothing releases it.
    proxy.refuse();
    proxy.reset_all();
    tokio::time::sleep(LEASE + 500 * MS).await;
    assert!(!renewed.is_lost() && dead.is_lost());
    renewed.release().await.unwrap();
    let writer = lives.acquire_lock("read", Some(500 * MS)).await.unwrap();
    writer.release().await.unwrap();
}
