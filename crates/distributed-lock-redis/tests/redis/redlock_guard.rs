//! Servers of a group that come back empty, are replaced, or are named twice.

use distributed_lock_core::prelude::*;
use distributed_lock_testkit::servers::RedisServer;
use tokio::time::Instant;

use crate::group::{self, Group};
use crate::{MS, SECOND, held, timed};

const KEY: &str = "distributed-lock:guarded";

/// What the guard is for: a holder's lock is on two of three servers, one of these comes back
/// empty, and must not make a majority with the third for somebody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_31_a_server_that_restarts_empty_is_not_counted_until_the_guard_has_passed() {
    let group = Group::start(3);
    let build = || group.builder().expiry(SECOND).restart_guard(SECOND * 3);
    let (here, there) = (build().build().await.unwrap(), build().build().await.unwrap());
    held(&there, "before").await.release().await.unwrap();
    let handle = held(&here, "guarded").await;
    let began = Instant::now();
    while group.count(KEY) < 3 {
        assert!(began.elapsed() < SECOND, "not everybody was asked");
    }
    assert_eq!(group.0[2].cli(&["DEL", KEY]), "1", "as if this one had not granted it");
    group.0[1].kill();
    group.0[1].restart();
    let restarted = Instant::now();
    let fresh = build().build().await.unwrap();
    // One server has named the holder, one has granted it and one does not count: too few, until the
    // holder has been told that two do not know its lock any more.
    let (mut told, mut next) = (0, None);
    while next.is_none() {
        assert!(restarted.elapsed() < SECOND * 2, "two servers are a majority");
        for stranger in [&there, &fresh] {
            match stranger.try_acquire_lock("guarded").await {
                Err(LockError::Connection(_)) => told += 1,
                Ok(None) => {}
                Ok(Some(won)) => next = Some(won),
                Err(error) => panic!("{error:?}"),
            }
            assert!(next.is_none() || handle.is_lost(), "two hold it");
        }
    }
    println!("told {told} times that too few servers count");
    assert_eq!(group.0[1].cli(&["EXISTS", KEY]), "0", "it was counted");
    drop(next);
    // Afterwards it counts again, for each provider from when that has seen it first.
    for provider in [&here, &there, &build().build().await.unwrap()] {
        let mut votes = 0;
        while votes < 3 {
            assert!(restarted.elapsed() < SECOND * 9, "it is not counted");
            let handle = held(provider, "counted").await;
            // The third may come after the grant.
            tokio::time::sleep(20 * MS).await;
            votes = group.count("distributed-lock:counted");
            handle.release().await.unwrap();
        }
    }
    assert!(restarted.elapsed() >= SECOND * 3, "it was counted too early");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_31_a_server_that_was_replaced_is_new_and_a_new_group_starts_at_once() {
    let group = Group::start(3);
    let stranger = RedisServer::start(&[]);
    let urls = [group.0[0].url(), stranger.url(), group.0[2].url()];
    let build = || group::of(&urls).expiry(SECOND).restart_guard(SECOND * 2);
    let here = build().build().await.unwrap();
    let handle = held(&here, "replaced").await;
    assert_eq!(stranger.cli(&["EXISTS", "distributed-lock:replaced"]), "0", "it was counted");
    handle.release().await.unwrap();
    group.0[0].kill();
    // The two that are left do not count alike, and are too few.
    let result = here.try_acquire_lock("replaced").await;
    assert!(matches!(result, Err(LockError::Connection(_))), "{:?}", result.map(|_| ()));
    let began = Instant::now();
    while here.acquire_lock("replaced", Some(SECOND)).await.is_err() {
        assert!(began.elapsed() < SECOND * 4, "the new one never counts");
    }
    let (another, took) = timed(async {
        let servers: Vec<_> = (0..3).map(|_| RedisServer::start(&[])).collect();
        let urls: Vec<_> = servers.iter().map(RedisServer::url).collect();
        let provider = group::of(&urls).build().await.unwrap();
        held(&provider, "new").await.release().await.unwrap();
        servers
    })
    .await;
    println!("three servers started and used in {took:?}");
    drop(another);
}

#[tokio::test]
async fn one_server_named_twice_is_refused() {
    let servers = [RedisServer::start(&[]), RedisServer::start(&[])];
    let [one, other] = [servers[0].url(), servers[1].url()];
    for urls in [
        vec![one.clone(), one.clone(), other.clone()],
        vec![one.clone(), other.clone(), format!("redis://localhost:{}/1", servers[0].port())],
    ] {
        let built = group::of(&urls).build().await;
        assert!(
            matches!(&built, Err(LockError::Config(text)) if text.contains("same")),
            "{:?}",
            built.map(|_| ())
        );
    }
}
