//! Servers that are killed, stopped and restarted.

use distributed_lock_core::prelude::*;
use distributed_lock_testkit::outage;
use distributed_lock_testkit::servers::RedisServer;

use crate::{MS, SECOND, freed, held, is_held, leased, provider, timed, told_of_loss};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_18_without_persistence_a_crash_is_told_by_the_next_renewal() {
    let server = RedisServer::start(&[]);
    let here = leased(&server.url(), 3 * SECOND).await;
    let handle = held(&here, "crash").await;
    let before = handle.fencing_token().await.unwrap();
    server.kill();
    server.restart();
    // A renewal that met the dead server is made again half a cadence later.
    told_of_loss(&handle, 2 * SECOND).await;
    assert!(matches!(handle.release().await, Err(LockError::LockLost(_))));
    let next = here.acquire_lock("crash", Some(SECOND)).await.unwrap();
    assert!(next.fencing_token().await.unwrap() > before, "tokens go on increasing");
    next.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_19_with_an_append_only_file_lock_and_token_survive() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let (here, there) = (leased(&server.url(), 3 * SECOND).await, provider(&server.url()).await);
    let handle = held(&here, "crash").await;
    let waiter = tokio::spawn(async move { there.acquire_lock("crash", None).await });
    crate::queue::until_waiting(&server, 1).await;
    server.kill();
    server.restart();
    let other = leased(&server.url(), 3 * SECOND).await;
    tokio::time::sleep(4 * SECOND).await;
    assert!(!handle.is_lost(), "it was there all the time");
    assert!(is_held(&other, "crash").await);
    let before = handle.fencing_token().await.unwrap();
    handle.release().await.unwrap();
    let next = waiter.await.unwrap().unwrap();
    assert!(next.fencing_token().await.unwrap() > before);
    next.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_20_a_stopped_server_leaves_nothing_behind() {
    let server = RedisServer::start(&[]);
    let here = provider(&server.url()).await;
    let handle = held(&here, "stopped").await;
    server.pause();
    let asking = async {
        let mut results = Vec::new();
        for name in ["stopped a", "stopped b"] {
            results.push(timed(here.try_acquire_lock(name)).await);
        }
        results
    };
    let (results, took) = tokio::join!(asking, told_of_loss(&handle, SECOND + 100 * MS));
    println!("told after {took:?} of a lease of 1 s");
    for (result, took) in results {
        assert!(matches!(result, Err(LockError::Connection(_))), "{:?}", result.map(|_| ()));
        assert!(took <= 2500 * MS, "{took:?}");
    }
    server.resume();
    // Whatever waited in its sockets is done before this; what was withdrawn does not come back.
    for name in ["stopped", "stopped a", "stopped b"] {
        freed(&here, name, 2 * SECOND).await;
    }
    drop(handle);
    for name in ["stopped", "stopped a", "stopped b"] {
        assert!(!is_held(&here, name).await, "{name} appeared");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_provider_works_after_a_restart() {
    let server = RedisServer::start(&[]);
    let here = provider(&server.url()).await;
    for _ in 0..3 {
        held(&here, "again").await.release().await.unwrap();
        server.kill();
        let (result, _) = timed(here.try_acquire_lock("again")).await;
        assert!(matches!(result, Err(LockError::Connection(_))));
        server.restart();
    }
    held(&here, "again").await.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_50_waits_behind_the_own_process_survive_a_restart() {
    for args in [&[][..], &["--appendonly", "yes"]] {
        let server = RedisServer::start(args);
        let here = leased(&server.url(), 3 * SECOND).await;
        outage::waits_survive(&here, async || {
            server.kill();
            tokio::time::sleep(3 * SECOND).await;
            server.restart();
        })
        .await;
    }
}
