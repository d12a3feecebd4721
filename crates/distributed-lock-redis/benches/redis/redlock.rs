//! Acquire and release of a free lock on five servers beside one, all up and with two that hang.

use std::time::{Duration, Instant};

use distributed_lock_core::traits::{DistributedLock, LockHandle, LockProvider};
use distributed_lock_redis::RedisLockProvider;
use distributed_lock_testkit::servers::RedisServer;

use crate::bare::Bare;
use crate::{report, spinner};

const BLOCKS: usize = 60;
const ROUNDS: u32 = 100;

pub(crate) fn run(server: &RedisServer) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(measure(server));
}

async fn measure(server: &RedisServer) {
    let five: Vec<_> = (0..5).map(|_| RedisServer::start(&[])).collect();
    five.iter().for_each(|server| spinner::bind_to_core(server.pid(), 1));
    let builder = RedisLockProvider::builder();
    let builder = five.iter().fold(builder, |builder, server| builder.add_server(server.url()));
    let on_five = builder.build().await.unwrap();
    let on_one = RedisLockProvider::builder().add_server(server.url()).build().await.unwrap();
    let mut bare: Vec<Bare> = Vec::new();
    for server in &five {
        bare.push(Bare::connect(&server.url()).await);
    }
    let mut alone = Bare::connect(&server.url()).await;
    let (mut one, mut several, mut maj) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..BLOCKS {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            alone.lock_and_unlock("bare").await;
        }
        one.push(start.elapsed() / ROUNDS);
        let start = Instant::now();
        for _ in 0..ROUNDS {
            futures_util::future::join_all(bare.iter_mut().map(|b| b.lock("bare"))).await;
            futures_util::future::join_all(bare.iter_mut().map(|b| b.unlock("bare"))).await;
        }
        several.push(start.elapsed() / ROUNDS);
        let start = Instant::now();
        for _ in 0..ROUNDS {
            futures_util::future::join_all(bare[..3].iter_mut().map(|b| b.lock("bare"))).await;
            futures_util::future::join_all(bare[..3].iter_mut().map(|b| b.unlock("bare"))).await;
        }
        maj.push(start.elapsed() / ROUNDS);
    }
    report("bare five beside bare one", "-", &one, &several);
    report("bare three beside bare one", "-", &one, &maj);
    let beside = async |what, goal| {
        let (mut one, mut several) = (Vec::new(), Vec::new());
        for _ in 0..BLOCKS {
            one.push(timed(&on_one).await);
            several.push(timed(&on_five).await);
        }
        report(what, goal, &one, &several);
    };
    beside("uncontended, five servers beside one (\"bare\")", "≤ 2").await;
    five[1..3].iter().for_each(RedisServer::pause);
    beside("the same, two of five hang", "≤ 3").await;
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
async fn timed(provider: &RedisLockProvider) -> Duration {
    let lock = provider.create_lock("bench");
    let start = Instant::now();
    for _ in 0..ROUNDS {
        lock.acquire(None).await.unwrap().release().await.unwrap();
    }
    start.elapsed() / ROUNDS
}
