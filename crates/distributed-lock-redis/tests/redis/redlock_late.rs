//! Requests of a round that arrive late: after their round was dropped, or on a link that was left.

use std::time::Duration;

use distributed_lock_core::error::LockResult;
use distributed_lock_core::prelude::*;
use distributed_lock_redis::RedisLockProvider;
use distributed_lock_testkit::proxy::{FaultProxy, Way};
use distributed_lock_testkit::servers::RedisServer;
use tokio::time::Instant;

use crate::group::{self, Group};
use crate::late_links::LateLinks;
use crate::{MS, SECOND};

const LEASE: Duration = Duration::from_secs(30);

/// How a name is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Asks {
    Mutex,
    Read,
    Write,
    Permit,
}

const ALL: [Asks; 4] = [Asks::Mutex, Asks::Read, Asks::Write, Asks::Permit];

/// A held lock, whichever it is.
enum Held {
    Mutex(distributed_lock_redis::RedisLockHandle),
    Read(distributed_lock_redis::RedisReadLockHandle),
    Write(distributed_lock_redis::RedisWriteLockHandle),
    Permit(distributed_lock_redis::RedisSemaphoreHandle),
}

impl Asks {
    async fn acquire(
        self,
        provider: &RedisLockProvider,
        name: &str,
        timeout: Option<Duration>,
    ) -> LockResult<Held> {
        let readers = provider.create_reader_writer_lock(name);
        Ok(match self {
            Self::Mutex => Held::Mutex(provider.acquire_lock(name, timeout).await?),
            Self::Read => Held::Read(readers.acquire_read(timeout).await?),
            Self::Write => Held::Write(readers.acquire_write(timeout).await?),
            Self::Permit => {
                Held::Permit(provider.create_semaphore(name, 1).acquire(timeout).await?)
            }
        })
    }

    /// What excludes it.
    fn other(self) -> Self {
        match self {
            Self::Mutex | Self::Read => Self::Write,
            Self::Write => Self::Mutex,
            Self::Permit => Self::Permit,
        }
    }
}

impl Held {
    async fn release(self) -> LockResult<()> {
        match self {
            Self::Mutex(handle) => handle.release().await,
            Self::Read(handle) => handle.release().await,
            Self::Write(handle) => handle.release().await,
            Self::Permit(handle) => handle.release().await,
        }
    }
}

fn proxied(group: &Group) -> (Vec<FaultProxy>, Vec<String>) {
    let proxies: Vec<_> =
        group.0.iter().map(|server| FaultProxy::start(server.address())).collect();
    let ways = group.0.iter().zip(&proxies);
    let urls = ways.map(|(server, proxy)| server.url_by(proxy.port())).collect();
    (proxies, urls)
}

/// Takes what excludes it, which nobody has, and gives it back.
async fn is_free(provider: &RedisLockProvider, asks: Asks, name: &str, within: Duration) {
    let began = Instant::now();
    match asks.other().acquire(provider, name, Some(within)).await {
        Ok(held) => held.release().await.unwrap(),
        Err(error) => panic!("{asks:?} {name}: not free within {within:?}: {error:?}"),
    }
    println!("{asks:?} {name}: free after {:?}", began.elapsed());
}

/// The round of a wait is dropped at the deadline, and the last try is won beside its votes.
async fn a_round_dropped_at_the_deadline(servers: usize) {
    let group = Group::start(servers);
    let there = group.leased(LEASE).await;
    let (proxies, urls) = proxied(&group);
    let here = group::of(&urls).expiry(LEASE).build().await.unwrap();
    for proxy in &proxies {
        proxy.delay(Way::ToClient, 30 * MS, Duration::ZERO);
    }
    let mut granted = 0;
    for asks in ALL {
        for waits in (36..=120).step_by(6) {
            let name = format!("deadline {asks:?} {waits}");
            let before = asks.other().acquire(&there, &name, Some(5 * SECOND)).await.unwrap();
            let releasing = async {
                tokio::time::sleep(12 * MS).await;
                before.release().await.unwrap();
            };
            let waiting = asks.acquire(&here, &name, Some(waits * MS));
            let (result, ()) = tokio::join!(waiting, releasing);
            match result {
                Ok(held) => {
                    granted += 1;
                    held.release().await.unwrap();
                }
                Err(LockError::Timeout(_)) => {}
                Err(error) => panic!("{asks:?} {waits}: {error:?}"),
            }
            is_free(&there, asks, &name, 2 * SECOND).await;
        }
    }
    println!("{granted} of 60 were granted");
    assert!(granted > 10, "only {granted}: nothing is shown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_49_a_round_dropped_at_the_deadline_is_undone_with_three_servers() {
    a_round_dropped_at_the_deadline(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_49_a_round_dropped_at_the_deadline_is_undone_with_five_servers() {
    a_round_dropped_at_the_deadline(5).await;
}

/// A majority stalls during the round with which a wait begins, and that round is dropped. Its votes
/// come later, and are the waiter's own.
async fn a_round_dropped_in_the_middle_of_a_wait(servers: usize, asks: Asks) {
    let group = Group::start(servers);
    let there = group.leased(LEASE).await;
    let (proxies, urls) = proxied(&group);
    let here = group::of(&urls).expiry(LEASE).build().await.unwrap();
    let name = "middle";
    let before = asks.other().acquire(&there, name, Some(5 * SECOND)).await.unwrap();
    for proxy in &proxies {
        // The client hears of its subscription when this test has seen it.
        proxy.delay(Way::ToClient, 40 * MS, Duration::ZERO);
    }
    let waiting = {
        let here = here.clone();
        tokio::spawn(async move {
            let began = Instant::now();
            let held = asks.acquire(&here, name, Some(15 * SECOND)).await;
            (held, began.elapsed())
        })
    };
    let stalls = 1..servers;
    let subscribed = |server: &RedisServer| !server.cli(&["PUBSUB", "CHANNELS"]).is_empty();
    let began = Instant::now();
    while !group.0[stalls.clone()].iter().any(subscribed) {
        assert!(began.elapsed() < 5 * SECOND, "it does not wait");
        tokio::task::yield_now().await;
    }
    let stalled = Instant::now();
    proxies[stalls.clone()].iter().for_each(|proxy| proxy.stall(Way::ToServer));
    tokio::time::sleep_until(stalled + 300 * MS).await;
    before.release().await.unwrap();
    tokio::time::sleep_until(stalled + 1300 * MS).await;
    proxies.iter().for_each(FaultProxy::heal);
    let (held, took) = waiting.await.unwrap();
    println!("{asks:?} with {servers} servers: {took:?}");
    assert!(proxies[1].effects().stalled > 0, "nothing was stalled");
    let held = held.unwrap_or_else(|error| panic!("{asks:?}: after {took:?}: {error:?}"));
    // Stalled for 1.3 s, then at most a fallback period and the rounds of a split vote.
    assert!(took < 5 * SECOND, "{took:?}");
    held.release().await.unwrap();
    is_free(&there, asks, name, 2 * SECOND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_49_a_round_dropped_in_the_middle_of_a_wait_is_undone_before_the_next() {
    for asks in ALL {
        a_round_dropped_in_the_middle_of_a_wait(3, asks).await;
    }
    a_round_dropped_in_the_middle_of_a_wait(5, Asks::Mutex).await;
    a_round_dropped_in_the_middle_of_a_wait(5, Asks::Read).await;
}

/// A try leaves on links that are closed, is repeated on others and refused there. Then the lock is
/// released, and the requests on the first links arrive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_49_a_refusal_on_the_second_link_is_no_answer_on_the_first() {
    for servers in [3, 5] {
        let group = Group::start(servers);
        let there = group.leased(LEASE).await;
        for asks in ALL {
            let mut links = Vec::new();
            for server in &group.0 {
                links.push(LateLinks::start(server).await);
            }
            let ways = group.0.iter().zip(&links);
            let urls: Vec<_> = ways.map(|(server, links)| server.url_by(links.port())).collect();
            let here = group::of(&urls).expiry(LEASE).build().await.unwrap();
            let name = format!("second link {asks:?}");
            let before = asks.other().acquire(&there, &name, Some(5 * SECOND)).await.unwrap();
            links.iter().for_each(LateLinks::hold);
            let trying = {
                let (here, name) = (here.clone(), name.clone());
                tokio::spawn(async move {
                    asks.acquire(&here, &name, Some(Duration::ZERO)).await.map(drop)
                })
            };
            let mut late = Vec::new();
            for links in &links {
                links.holds(name.as_bytes()).await;
            }
            late.extend(links.iter().map(LateLinks::close));
            let refused = trying.await.unwrap();
            assert!(matches!(refused, Err(LockError::Timeout(_))), "{asks:?}: {refused:?}");
            before.release().await.unwrap();
            // The provider undoes it in the background; that is not waited for.
            for last in late {
                LateLinks::deliver(last).await;
            }
            is_free(&there, asks, &name, 2 * SECOND).await;
        }
    }
}
