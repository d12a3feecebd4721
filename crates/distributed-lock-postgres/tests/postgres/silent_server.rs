//! A server that cannot be reached, or is reached and says nothing.

use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_postgres::PostgresLockProvider;
use distributed_lock_testkit::bounds::SLACK;
use distributed_lock_testkit::proxy::{FaultProxy, Way};
use distributed_lock_testkit::servers::PostgresServer;
use tokio::time::Instant;

use crate::observer::{HELD, Observer};
use crate::{SECOND, provider};

const OPERATION: Duration = Duration::from_secs(2);

async fn by(proxy: &FaultProxy, server: &PostgresServer) -> PostgresLockProvider {
    let url = server.url_by(proxy.port());
    PostgresLockProvider::builder().connection_string(url).build().await.unwrap()
}

/// Ends with `Connection` in time.
async fn is_unreachable<T>(what: &str, request: impl Future<Output = T>)
where
    T: std::fmt::Debug + Into<Result<(), LockError>>,
{
    let began = Instant::now();
    let answer = request.await.into();
    let took = began.elapsed();
    println!("{what}: {took:?}");
    assert!(matches!(answer, Err(LockError::Connection(_))), "{what}: {answer:?}");
    assert!(took <= OPERATION + SLACK, "{what}: {took:?}");
}

/// Every first step of a provider, which has a session already.
async fn all_are_unreachable(what: &str, here: &PostgresLockProvider) {
    let name = |step: &str| format!("{what}, {step}");
    let (tried, waited) = (name("try"), name("acquire"));
    let (read, permit) = (name("read"), name("permit"));
    tokio::join!(
        is_unreachable(&tried, async { here.try_acquire_lock(&tried).await.map(drop) }),
        is_unreachable(&waited, async {
            here.acquire_lock(&waited, Some(60 * SECOND)).await.map(drop)
        }),
        is_unreachable(&read, async {
            here.create_reader_writer_lock(&read).try_acquire_read().await.map(drop)
        }),
        is_unreachable(&permit, async {
            here.create_semaphore(&permit, 3).try_acquire().await.map(drop)
        }),
    );
}

async fn works(here: &PostgresLockProvider, server: &PostgresServer) {
    let began = Instant::now();
    loop {
        match here.acquire_lock("works", Some(SECOND)).await {
            Ok(handle) => break handle.release().await.unwrap(),
            Err(LockError::Connection(_)) => assert!(began.elapsed() <= 15 * SECOND),
            Err(error) => panic!("{error:?}"),
        }
    }
    println!("works again after {:?}", began.elapsed());
    // What was asked without an answer has left nothing.
    Observer::of(server).await.until(HELD, 0, 15 * SECOND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_42_a_try_ends_in_time_when_the_server_is_in_a_black_hole() {
    let server = PostgresServer::start(&[]);
    for ways in [&[Way::ToClient][..], &[Way::ToServer], &[Way::ToClient, Way::ToServer]] {
        let proxy = FaultProxy::start(server.address());
        let here = by(&proxy, &server).await;
        // A session that lives, and statements that are known there.
        here.acquire_lock("before", None).await.unwrap().release().await.unwrap();
        ways.iter().for_each(|way| proxy.black_hole(*way));
        all_are_unreachable(&format!("{ways:?}"), &here).await;
        proxy.heal();
        works(&here, &server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_42_a_try_ends_in_time_when_the_server_is_stopped() {
    let server = PostgresServer::start(&[]);
    let here = provider(&server).await;
    server.pause();
    all_are_unreachable("stopped", &here).await;
    server.resume();
    works(&here, &server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_42_a_try_ends_in_time_when_the_server_refuses_or_only_accepts() {
    let server = PostgresServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    let here = by(&proxy, &server).await;
    proxy.refuse();
    proxy.reset_all();
    all_are_unreachable("refused", &here).await;
    proxy.heal();
    works(&here, &server).await;
    proxy.accept_and_say_nothing();
    proxy.reset_all();
    all_are_unreachable("accepted", &here).await;
    let build = PostgresLockProvider::builder().connection_string(server.url_by(proxy.port()));
    is_unreachable("build", async { build.build().await.map(drop) }).await;
    proxy.heal();
    works(&here, &server).await;
}
