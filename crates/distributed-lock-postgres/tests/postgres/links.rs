//! Links that are reset, or that carry nothing any more and do not say so.

use distributed_lock_core::CancellationToken;
use distributed_lock_core::prelude::*;
use distributed_lock_postgres::{PostgresLockHandle, PostgresLockProvider};
use distributed_lock_testkit::bounds::SLACK;
use distributed_lock_testkit::proxy::{FaultProxy, Way};
use distributed_lock_testkit::servers::PostgresServer;
use std::time::Duration;
use tokio::time::Instant;

use crate::observer::{HELD, Observer, QUEUED};
use crate::{MS, SECOND, provider};

const CADENCE: Duration = Duration::from_millis(300);

/// What a holder or waiter has by its operation timeout.
const OPERATION: Duration = Duration::from_secs(2);

/// A provider whose links go through the proxy.
async fn by(proxy: &FaultProxy, server: &PostgresServer) -> PostgresLockProvider {
    let url = server.url_by(proxy.port());
    let builder = PostgresLockProvider::builder().connection_string(url);
    builder.keepalive_cadence(CADENCE).build().await.unwrap()
}

/// How long until the holder was told, which must be by `limit`.
async fn told(token: &CancellationToken, limit: Duration) -> Duration {
    let began = Instant::now();
    let told = tokio::time::timeout(limit, token.cancelled()).await;
    assert!(told.is_ok(), "not told within {limit:?}");
    began.elapsed()
}

async fn assert_lost(handle: PostgresLockHandle) {
    assert!(handle.is_lost());
    let released = handle.release().await;
    assert!(matches!(released, Err(LockError::LockLost(_))), "{released:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_4_a_reset_is_told_within_a_second() {
    let server = PostgresServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    let here = by(&proxy, &server).await;
    let handles = [
        here.acquire_lock("one", None).await.unwrap(),
        here.acquire_lock("another", None).await.unwrap(),
    ];
    proxy.reset_all();
    for handle in handles {
        let took = told(handle.lost_token(), SECOND).await;
        println!("told after {took:?}");
        assert_lost(handle).await;
    }
    let again = here.acquire_lock("one", Some(SECOND)).await.unwrap();
    again.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_4_a_waiter_survives_a_reset() {
    let server = PostgresServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    let observer = Observer::of(&server).await;
    let (here, there) = (by(&proxy, &server).await, provider(&server).await);
    let held = there.acquire_lock("name", None).await.unwrap();
    let waiter = here.clone();
    let waiting = tokio::spawn(async move { waiter.acquire_lock("name", None).await });
    for _ in 0..3 {
        observer.until(QUEUED, 1, 5 * SECOND).await;
        let session = observer.number(&QUEUED.replace("count(*)", "max(pid)::bigint")).await;
        proxy.reset_all();
        // Its successor may be there already.
        observer.until(&format!("{QUEUED} AND pid = {session}"), 0, SECOND).await;
    }
    observer.until(QUEUED, 1, 5 * SECOND).await;
    held.release().await.unwrap();
    waiting.await.unwrap().unwrap().release().await.unwrap();
}

/// Whichever way packets vanish, and however many locks there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_5_a_holder_is_told_of_a_silent_link_before_the_server_frees_it() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    for ways in [&[Way::ToClient][..], &[Way::ToServer], &[Way::ToClient, Way::ToServer]] {
        let proxy = FaultProxy::start(server.address());
        let here = by(&proxy, &server).await;
        let one = here.acquire_lock("one", None).await.unwrap();
        let another = here.acquire_lock("another", None).await.unwrap();
        // Its links are closed by then, too; nothing arrives of that.
        ways.iter().for_each(|way| proxy.black_hole(*way));
        let signal = one.lost_token();
        let freed = async {
            loop {
                if observer.number(HELD).await < 2 {
                    return;
                }
                tokio::time::sleep(MS).await;
            }
        };
        let took = tokio::select! {
            biased;
            took = told(signal, 2 * CADENCE + SLACK) => took,
            () = freed => {
                assert!(signal.is_cancelled(), "freed before the holder was told");
                Duration::ZERO
            }
        };
        println!("{ways:?}: told after {took:?}");
        told(another.lost_token(), 10 * MS).await;
        assert_lost(one).await;
        assert_lost(another).await;
        drop(proxy);
        observer.until(HELD, 0, SECOND).await;
    }
}

/// A grant whose reply is lost: its session is ended by another, and the waiter waits again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_5_a_waiter_on_one_silent_link_waits_again_on_another() {
    let server = PostgresServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    let observer = Observer::of(&server).await;
    let (here, there) = (by(&proxy, &server).await, provider(&server).await);
    // A session of the provider that lives on.
    let other = here.acquire_lock("other", None).await.unwrap();
    let held = there.acquire_lock("name", None).await.unwrap();
    proxy.lose_reply_to(b"pg_advisory_lock($1");
    let waiter = here.clone();
    let waiting = tokio::spawn(async move { waiter.acquire_lock("name", None).await });
    tokio::time::sleep(OPERATION).await;
    assert!(!waiting.is_finished());
    // Whatever the waiting session sends from here on is not answered.
    let released = Instant::now();
    held.release().await.unwrap();
    let granted = tokio::time::timeout(20 * SECOND, waiting).await.unwrap().unwrap().unwrap();
    println!("granted {:?} after the release", released.elapsed());
    assert!(!granted.is_lost() && !other.is_lost());
    assert_eq!(observer.number(HELD).await, 2, "two locks, and no ghost");
    granted.release().await.unwrap();
    other.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_5_a_waiter_all_of_whose_links_are_silent_waits_again_and_keeps_its_deadline() {
    let server = PostgresServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    let observer = Observer::of(&server).await;
    let (here, there) = (by(&proxy, &server).await, provider(&server).await);
    let held = there.acquire_lock("name", None).await.unwrap();
    let (waiter, timed) = (here.clone(), here.clone());
    let waiting = tokio::spawn(async move { waiter.acquire_lock("name", None).await });
    observer.until(QUEUED, 1, 5 * SECOND).await;
    let also = there.acquire_lock("also", None).await.unwrap();
    let began = Instant::now();
    let timed = tokio::spawn(async move { timed.acquire_lock("also", Some(3 * SECOND)).await });
    observer.until(QUEUED, 2, 5 * SECOND).await;
    for way in [Way::ToClient, Way::ToServer] {
        proxy.black_hole(way);
    }
    let late = timed.await.unwrap();
    let took = began.elapsed();
    println!("an acquire with a timeout of 3 s in the dark: {took:?}");
    // Its last try, at the deadline, was not answered.
    assert!(matches!(late, Err(LockError::Connection(_))), "{late:?}");
    assert!(took >= 3 * SECOND && took <= 3 * SECOND + OPERATION + SLACK, "{took:?}");
    // For the waiter nothing has changed: granted where nobody hears of it.
    held.release().await.unwrap();
    let healed = Instant::now();
    proxy.heal();
    let granted = tokio::time::timeout(20 * SECOND, waiting).await.unwrap().unwrap().unwrap();
    println!("granted {:?} after it was healed", healed.elapsed());
    granted.release().await.unwrap();
    also.release().await.unwrap();
    observer.until(HELD, 0, 20 * SECOND).await;
}
