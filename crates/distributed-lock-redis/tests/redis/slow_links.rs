//! Links whose round trip is long beside the lease, and links that fall silent.

use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_redis::{RedisLockProvider, RedisProtocol};
use distributed_lock_testkit::proxy::{FaultProxy, Way};
use distributed_lock_testkit::servers::RedisServer;

use crate::{MS, SECOND, is_held, leased, provider};

async fn by(
    proxy: &FaultProxy,
    server: &RedisServer,
    (protocol, expiry): (RedisProtocol, Duration),
) -> RedisLockProvider {
    let builder = RedisLockProvider::builder().add_server(server.url_by(proxy.port()));
    // Building takes several round trips.
    let builder = builder.operation_timeout(8 * SECOND);
    builder.expiry(expiry).protocol(protocol).build().await.unwrap()
}

/// A round trip of up to a quarter of the lease is more than half of the cadence, the time for which an
/// extension is waited for before the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_outlives_its_lease_where_a_round_trip_takes_longer_than_half_the_cadence() {
    let server = RedisServer::start(&[]);
    for (expiry, each_way) in [(SECOND, 100 * MS), (2 * SECOND, 250 * MS)] {
        for is_slow_from_the_start in [true, false] {
            for protocol in [RedisProtocol::Resp2, RedisProtocol::Resp3] {
                let proxy = FaultProxy::start(server.address());
                let slow = || {
                    proxy.delay(Way::ToServer, each_way, Duration::ZERO);
                    proxy.delay(Way::ToClient, each_way, Duration::ZERO);
                };
                if is_slow_from_the_start {
                    slow();
                }
                let here = by(&proxy, &server, (protocol, expiry)).await;
                let mutex = here.acquire_lock("slow", Some(5 * SECOND)).await.unwrap();
                let permits = here.create_semaphore("slow", 1);
                let permit = permits.acquire(Some(5 * SECOND)).await.unwrap();
                slow();
                let lost = async {
                    tokio::select! {
                        () = mutex.lost_token().cancelled() => {}
                        () = permit.lost_token().cancelled() => {}
                    }
                };
                let lost = tokio::time::timeout(4 * expiry, lost).await;
                assert!(lost.is_err(), "lost with {expiry:?}, {each_way:?} each way, {protocol:?}");
                assert!(is_held(&leased(&server.url(), expiry).await, "slow").await);
                mutex.release().await.unwrap();
                permit.release().await.unwrap();
            }
        }
    }
}

/// An extension that is not answered at all is repeated on another connection before the lease ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_survives_a_connection_that_falls_silent() {
    let server = RedisServer::start(&[]);
    for protocol in [RedisProtocol::Resp2, RedisProtocol::Resp3] {
        let proxy = FaultProxy::start(server.address());
        let here = by(&proxy, &server, (protocol, 3 * SECOND)).await;
        let handle = here.acquire_lock("silent", Some(5 * SECOND)).await.unwrap();
        for _ in 0..3 {
            // The next extension: nothing more is heard on its connection.
            proxy.lose_reply_to(here.native_key("silent").unwrap().as_bytes());
            let lost = tokio::time::timeout(3 * SECOND, handle.lost_token().cancelled()).await;
            assert!(lost.is_err(), "lost over {protocol:?}");
        }
        assert!(proxy.effects().vanished >= 3, "{:?}", proxy.effects());
        assert!(is_held(&provider(&server.url()).await, "silent").await);
        handle.release().await.unwrap();
    }
}
