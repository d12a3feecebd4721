//! Requests and replies that are lost, late or cut, through a proxy.

use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_redis::RedisLockProvider;
use distributed_lock_testkit::proxy::{FaultProxy, Way};
use distributed_lock_testkit::servers::RedisServer;
use tokio::time::Instant;

use crate::{
    MS, SECOND, assert_every_key_expires, freed, held, is_held, provider, timed, told_of_loss,
};

const OPERATION: Duration = Duration::from_millis(500);

async fn through(server: &RedisServer, proxy: &FaultProxy) -> RedisLockProvider {
    let url = server.url_by(proxy.port());
    let builder = RedisLockProvider::builder().add_server(url).operation_timeout(OPERATION);
    builder.expiry(10 * SECOND).build().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_16_a_lock_whose_grant_was_not_heard_of_is_freed() {
    let server = RedisServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    let (here, there) = (through(&server, &proxy).await, provider(&server.url()).await);
    for round in 0..20 {
        let name = format!("unheard {round}");
        proxy.lose_reply_to(name.as_bytes());
        let (result, took) = timed(here.try_acquire_lock(&name)).await;
        assert!(matches!(result, Err(LockError::Connection(_))), "{:?}", result.map(|_| ()));
        assert!(took <= OPERATION + 500 * MS, "{took:?}");
        assert_every_key_expires(&server);
        freed(&there, &name, SECOND).await;
    }
    assert!(proxy.effects().vanished >= 20, "{:?}", proxy.effects());
    // As before: one connection, and it works. On a busy machine one that is lost may be lost twice.
    held(&here, "unheard").await.release().await.unwrap();
    assert!(proxy.connections_ever() <= 21, "{}", proxy.connections_ever());
}

/// A connection that is cut between request and reply is replaced, and the request made again: it
/// finds its own grant, and a release that was done is not a loss.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_costs_one_more_request() {
    let server = RedisServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    let (here, there) = (through(&server, &proxy).await, provider(&server.url()).await);
    for _ in 0..20 {
        proxy.cut_after(Way::ToClient, 0);
        let handle = held(&here, "cut").await;
        assert!(is_held(&there, "cut").await);
        proxy.cut_after(Way::ToClient, 0);
        handle.release().await.unwrap();
        assert!(!is_held(&there, "cut").await);
    }
    assert!(proxy.effects().cut >= 40, "{:?}", proxy.effects());
}

/// `distributed-lock` 0.2.0 left the key in 21 of 21 cases.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_try_leaves_nothing() {
    let server = RedisServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    let (here, there) = (through(&server, &proxy).await, provider(&server.url()).await);
    proxy.delay(Way::ToClient, 20 * MS, Duration::ZERO);
    let mut dropped = 0;
    for round in 0..40 {
        let name = format!("dropped {round}");
        let after = (2 + round % 20) * MS;
        dropped +=
            u32::from(tokio::time::timeout(after, here.try_acquire_lock(&name)).await.is_err());
        freed(&there, &name, SECOND).await;
    }
    assert!(dropped >= 35, "{dropped}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_17_a_release_that_comes_late_does_not_touch_the_next_holder() {
    let server = RedisServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    let (here, there) =
        (provider(&server.url_by(proxy.port())).await, provider(&server.url()).await);
    for round in 0..10 {
        let name = format!("late {round}");
        let handle = held(&here, &name).await;
        proxy.stall(Way::ToServer);
        let releasing = tokio::spawn(handle.release());
        let next = there.acquire_lock(&name, Some(2 * SECOND)).await.unwrap();
        proxy.heal();
        // Both are right: the lease was over, or nobody can say.
        let released = releasing.await.unwrap();
        let is_told = matches!(released, Err(LockError::LockLost(_) | LockError::Connection(_)));
        assert!(is_told, "{released:?}");
        // Behind whatever was still on its way.
        assert!(is_held(&here, &name).await);
        assert!(!next.is_lost());
        next.release().await.unwrap();
    }
    assert!(proxy.effects().stalled >= 10, "{:?}", proxy.effects());
}

/// The loss of a lease whose renewals do not get through is told before anybody else has the lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewals_that_vanish_are_a_loss_at_the_deadline() {
    let server = RedisServer::start(&[]);
    for way in [Way::ToServer, Way::ToClient] {
        let proxy = FaultProxy::start(server.address());
        let here = provider(&server.url_by(proxy.port())).await;
        let there = provider(&server.url()).await;
        let handle = held(&here, "vanishing").await;
        proxy.black_hole(way);
        proxy.accept_and_say_nothing();
        let next = async {
            let next = there.acquire_lock("vanishing", None).await.unwrap();
            assert!(handle.is_lost(), "two holders");
            next
        };
        let (next, _) = tokio::join!(next, told_of_loss(&handle, SECOND + 100 * MS));
        next.release().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_42_a_server_that_says_nothing_costs_one_operation_timeout() {
    let server = RedisServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    let faults: [&dyn Fn(); 3] = [
        &|| proxy.black_hole(Way::ToServer),
        &|| {
            proxy.accept_and_say_nothing();
            proxy.reset_all();
        },
        &|| {
            proxy.refuse();
            proxy.reset_all();
        },
    ];
    for (number, fault) in faults.iter().enumerate() {
        let here = through(&server, &proxy).await;
        fault();
        for _ in 0..3 {
            let (result, took) = timed(here.try_acquire_lock("mute")).await;
            let result = result.map(|held| held.is_some());
            assert!(matches!(result, Err(LockError::Connection(_))), "fault {number}: {result:?}");
            assert!(took <= OPERATION + 500 * MS, "{took:?}");
        }
        let url = server.url_by(proxy.port());
        let builder = RedisLockProvider::builder().add_server(url).operation_timeout(OPERATION);
        proxy.accept_and_say_nothing();
        let (built, took) = timed(builder.build()).await;
        assert!(matches!(built, Err(LockError::Connection(_))));
        assert!(took <= OPERATION + 500 * MS, "{took:?}");
        proxy.heal();
        // A connection that was being made when it healed is waited for until its time is over.
        let healed = Instant::now();
        let handle = loop {
            match here.acquire_lock("mute", Some(OPERATION)).await {
                Ok(handle) => break handle,
                Err(error) => assert!(healed.elapsed() < 2 * OPERATION + 500 * MS, "{error:?}"),
            }
        };
        handle.release().await.unwrap();
    }
}

/// A waiter keeps its place while its connection is away, and gets the lock when its turn comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiter_returns_to_its_place() {
    let server = RedisServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    let (first, second) = (through(&server, &proxy).await, provider(&server.url()).await);
    let holder = provider(&server.url()).await;
    let handle = held(&holder, "place").await;
    let start = |process: &RedisLockProvider| {
        let process = process.clone();
        tokio::spawn(async move { process.acquire_lock("place", None).await.unwrap() })
    };
    let first = start(&first);
    crate::queue::until_waiting(&server, 1).await;
    let mut second = start(&second);
    crate::queue::until_waiting(&server, 2).await;
    // For longer than three of its fallback periods: the server has dropped it.
    proxy.refuse();
    proxy.reset_all();
    tokio::time::sleep(4 * SECOND).await;
    proxy.heal();
    tokio::time::sleep(2 * SECOND).await;
    handle.release().await.unwrap();
    let first = tokio::select! {
        biased;
        first = first => first.unwrap(),
        _ = &mut second => panic!("overtaken"),
    };
    first.release().await.unwrap();
    second.await.unwrap().release().await.unwrap();
}
