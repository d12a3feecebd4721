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
                let mutex = here.acquire_lock("slow", Some(SECOND)).await.unwrap();
                let permits = here.create_semaphore("slow", 1);
                let permit = permits.acquire(Some(SECOND)).await.unwrap();
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
        let handle = here.acquire_lock("silent", Some(SECOND)).await.unwrap();
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

/// `CLIENT KILL` of all connections ten times a second, and waits that are cancelled: the lock goes on
/// from hand to hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_24_killed_connections_and_cancelled_waits_stall_no_waiter() {
    let server = RedisServer::start(&[]);
    for protocol in [RedisProtocol::Resp2, RedisProtocol::Resp3] {
        let url = server.url();
        let client = distributed_lock_redis::redis::Client::open(url.clone()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let killing = tokio::spawn(async move {
            loop {
                let kill = distributed_lock_redis::redis::cmd("CLIENT")
                    .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
                    .query_async::<i64>(&mut connection)
                    .await;
                kill.unwrap();
                tokio::time::sleep(100 * MS).await;
            }
        });
        let ends = tokio::time::Instant::now() + 15 * SECOND;
        let workers = (0..3_u64).map(|process| {
            let url = url.clone();
            tokio::spawn(async move {
                let builder = RedisLockProvider::builder().add_server(url).protocol(protocol);
                let builder = builder.expiry(3 * SECOND);
                let here = loop {
                    // Its own connections are killed, too.
                    if let Ok(here) = builder.clone().build().await {
                        break here;
                    }
                };
                let tasks = (0..4_u64).map(|task| {
                    let here = here.clone();
                    async move {
                        let (mut worst, mut round, mut held) = (Duration::ZERO, 0_u64, 0_u64);
                        while tokio::time::Instant::now() < ends {
                            round += 1;
                            let began = tokio::time::Instant::now();
                            let acquiring = here.acquire_lock("stall", Some(10 * SECOND));
                            let cancel = (process * 7 + task * 3 + round) % 5 == 0;
                            let limit = if cancel {
                                Duration::from_millis(round * 13 % 60)
                            } else {
                                20 * SECOND
                            };
                            let Ok(acquired) = tokio::time::timeout(limit, acquiring).await else {
                                continue;
                            };
                            worst = worst.max(began.elapsed());
                            if let Ok(handle) = acquired {
                                held += 1;
                                tokio::time::sleep(2 * MS).await;
                                drop(handle);
                            }
                        }
                        (worst, held)
                    }
                });
                futures_util::future::join_all(tasks).await
            })
        });
        let (mut worst, mut held) = (Duration::ZERO, 0);
        for worker in futures_util::future::join_all(workers).await {
            for (wait, count) in worker.unwrap() {
                (worst, held) = (worst.max(wait), held + count);
            }
        }
        killing.abort();
        println!("{protocol:?}: {held} holds, the longest wait {worst:?}");
        assert!(worst < 3 * SECOND, "{protocol:?}: {worst:?}");
    }
}
