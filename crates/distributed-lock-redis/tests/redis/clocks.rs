//! Clocks that jump, here and at the server, and runtimes that stand still.

use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_testkit::proxy::FaultProxy;
use distributed_lock_testkit::servers::{ClockShift, RedisServer, Toward};

use crate::{MS, SECOND, assert_every_key_expires, freed, held, leased, provider, told_of_loss};

const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn server_with_a_clock() -> (RedisServer, ClockShift) {
    let clock = ClockShift::new();
    (RedisServer::builder().envs(clock.env()).start(), clock)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_22_a_clock_that_jumps_forward_is_told_within_a_cadence() {
    let (server, clock) = server_with_a_clock();
    let here = leased(&server.url(), 3 * SECOND).await;
    let handle = held(&here, "clock").await;
    let before = handle.fencing_token().await.unwrap();
    clock.set(HOUR, Toward::Future);
    told_of_loss(&handle, 1500 * MS).await;
    let next = here.acquire_lock("clock", Some(SECOND)).await.unwrap();
    assert!(next.fencing_token().await.unwrap() > before);
    next.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_22_a_clock_that_jumps_back_lengthens_nothing() {
    let (server, clock) = server_with_a_clock();
    let proxy = FaultProxy::start(server.address());
    let dies = leased(&server.url_by(proxy.port()), 2 * SECOND).await;
    let here = provider(&server.url()).await;
    let readers = dies.create_reader_writer_lock("stuck readers");
    let stuck = held(&dies, "stuck").await;
    let token = stuck.fencing_token().await.unwrap();
    let reader = readers.acquire_read(None).await.unwrap();
    let permit = dies.create_semaphore("stuck permits", 1).acquire(None).await.unwrap();
    // Nobody renews or releases them from here on.
    proxy.refuse();
    proxy.reset_all();
    clock.set(HOUR, Toward::Past);
    // One lease and one fallback period, and what tests allow.
    let within = 2 * SECOND + SECOND + 500 * MS;
    let writers = here.create_reader_writer_lock("stuck readers");
    let permits = here.create_semaphore("stuck permits", 1);
    let (next, writer, third) = tokio::join!(
        here.acquire_lock("stuck", Some(within)),
        writers.acquire_write(Some(within)),
        permits.acquire(Some(within)),
    );
    let (next, writer, third) = (next.unwrap(), writer.unwrap(), third.unwrap());
    assert!(
        next.fencing_token().await.unwrap() > token,
        "tokens increase although the clock went back"
    );
    for released in [next.release().await, writer.release().await, third.release().await] {
        released.unwrap();
    }
    drop((stuck, reader, permit));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_when_the_stated_expiries_have_passed() {
    let (server, clock) = server_with_a_clock();
    let (here, there) = (provider(&server.url()).await, provider(&server.url()).await);
    for name in ["one", "two"] {
        let handle = held(&here, name).await;
        let readers = there.create_reader_writer_lock(name);
        let permits = there.create_semaphore(name, 1);
        let permit = permits.acquire(None).await.unwrap();
        let waits = Some(100 * MS);
        assert!(matches!(readers.acquire_read(waits).await, Err(LockError::Timeout(_))));
        assert!(matches!(
            here.create_semaphore(name, 1).acquire(waits).await,
            Err(LockError::Timeout(_))
        ));
        assert_every_key_expires(&server);
        handle.release().await.unwrap();
        permit.release().await.unwrap();
        readers.acquire_read(None).await.unwrap().release().await.unwrap();
        drop(there.create_lock(name).acquire(None).await.unwrap());
        freed(&here, name, SECOND).await;
    }
    assert_every_key_expires(&server);
    clock.set(HOUR + SECOND, Toward::Future);
    assert_eq!(server.cli(&["KEYS", "*"]), "");
}

/// The runtime stands still for longer than the lease: the first question is answered rightly.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "that the thread is blocked is what is tested")]
async fn row_43_a_blocked_runtime_is_no_excuse() {
    let server = RedisServer::start(&[]);
    let here = leased(&server.url(), 200 * MS).await;
    let handle = held(&here, "blocked").await;
    std::thread::sleep(250 * MS);
    assert!(handle.is_lost(), "no task has run since");
    assert!(matches!(handle.release().await, Err(LockError::LockLost(_))));
}

/// The keeper's own thread renews while the runtime stands still.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "that the thread is blocked is what is tested")]
async fn a_blocked_runtime_loses_nothing_with_a_keeper_thread() {
    let server = RedisServer::start(&[]);
    let builder = distributed_lock_redis::RedisLockProvider::builder().add_server(server.url());
    let here = builder.expiry(SECOND).keeper_thread(true).build().await.unwrap();
    let handle = held(&here, "blocked").await;
    std::thread::sleep(2 * SECOND);
    assert!(!handle.is_lost());
    handle.release().await.unwrap();
}
