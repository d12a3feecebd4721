//! How many requests a lock takes, as others hold it or not.

use distributed_lock_core::prelude::*;
use distributed_lock_testkit::proxy::FaultProxy;
use distributed_lock_testkit::servers::RedisServer;

use crate::{SECOND, held, leased};

/// How many requests one round takes, four times in a row.
async fn rounds(proxy: &FaultProxy, round: impl AsyncFn()) -> Vec<u64> {
    let mut requests = Vec::new();
    for _ in 0..4 {
        let before = proxy.requests();
        round().await;
        requests.push(proxy.requests() - before);
    }
    requests
}

/// Acquire and release are two requests, also beside others. That others have come since the last
/// time is noticed once, by one more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_and_permits_take_two_requests_alone_and_beside_others() {
    let server = RedisServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    let here = leased(&server.url_by(proxy.port()), 30 * SECOND).await;
    let there = leased(&server.url(), 30 * SECOND).await;
    held(&here, "warm up").await.release().await.unwrap();

    let semaphore = here.create_semaphore("many", 5);
    let lock = here.create_reader_writer_lock("many");
    let permit = async || semaphore.acquire(None).await.unwrap().release().await.unwrap();
    let read = async || lock.acquire_read(None).await.unwrap().release().await.unwrap();
    permit().await;
    read().await;
    for _ in 0..2 {
        assert_eq!(rounds(&proxy, permit).await, [2, 2, 2, 2]);
        assert_eq!(rounds(&proxy, read).await, [2, 2, 2, 2]);
        let beside = (
            there.create_semaphore("many", 5).acquire(None).await.unwrap(),
            there.create_reader_writer_lock("many").acquire_read(None).await.unwrap(),
        );
        assert_eq!(rounds(&proxy, permit).await, [3, 2, 2, 2]);
        assert_eq!(rounds(&proxy, read).await, [3, 2, 2, 2]);
        beside.0.release().await.unwrap();
        beside.1.release().await.unwrap();
    }
}
