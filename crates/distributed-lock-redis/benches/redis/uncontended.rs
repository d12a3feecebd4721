//! Acquire and release of a free lock, in each mode and by many tasks at once.

use std::future::Future;
use std::time::{Duration, Instant};

use distributed_lock_core::traits::{
    DistributedLock, DistributedReaderWriterLock, DistributedSemaphore, LockHandle, LockProvider,
    ReaderWriterLockProvider, SemaphoreProvider,
};
use distributed_lock_redis::RedisLockProvider;
use distributed_lock_testkit::servers::RedisServer;
use tokio::task::JoinSet;

use crate::bare::Bare;
use crate::report;

const BLOCKS: usize = 60;
const ROUNDS: u32 = 250;
const TASKS: u32 = 64;

pub(crate) fn run(server: &RedisServer) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(measure(&server.url()));
}

async fn measure(url: &str) {
    let mut bare = Bare::connect(url).await;
    let provider = RedisLockProvider::builder().add_server(url).build().await.unwrap();
    let lock = provider.create_lock("bench");
    let readers = provider.create_reader_writer_lock("bench readers");
    let permits = provider.create_semaphore("bench permits", 10);
    let mut times: [Vec<Duration>; 7] = Default::default();
    for _ in 0..BLOCKS {
        times[0].push(timed(async || bare.lock_and_unlock("bench").await).await);
        times[1]
            .push(timed(async || lock.acquire(None).await.unwrap().release().await.unwrap()).await);
        times[2].push(
            timed(async || readers.acquire_read(None).await.unwrap().release().await.unwrap())
                .await,
        );
        times[3].push(
            timed(async || permits.acquire(None).await.unwrap().release().await.unwrap()).await,
        );
        times[4].push(
            at_once(|name| {
                let mut bare = bare.clone();
                async move {
                    for _ in 0..ROUNDS / 10 {
                        bare.lock_and_unlock(&name).await;
                    }
                }
            })
            .await,
        );
        times[5].push(
            at_once(|name| {
                let lock = provider.create_lock(&name);
                async move {
                    for _ in 0..ROUNDS / 10 {
                        lock.acquire(None).await.unwrap().release().await.unwrap();
                    }
                }
            })
            .await,
        );
        times[6].push(
            at_once(|name| {
                let mut bare = bare.clone();
                async move {
                    for _ in 0..ROUNDS / 10 {
                        bare.same_requests(&name).await;
                    }
                }
            })
            .await,
        );
    }
    let [bare, mutex, reader, permit, bare_tasks, tasks, same_requests] = &times;
    report("uncontended acquire + release, mutex", "≤ 1.25", bare, mutex);
    report("uncontended acquire + release, reader", "≤ 1.5", bare, reader);
    report("uncontended acquire + release, permit", "≤ 1.5", bare, permit);
    report("64 tasks on distinct names, beside the same requests", "≤ 1.25", same_requests, tasks);
    report("64 tasks on distinct names, beside SET NX", "none", bare_tasks, tasks);
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
async fn timed(mut round: impl AsyncFnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..ROUNDS {
        round().await;
    }
    start.elapsed() / ROUNDS
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
async fn at_once<F: Future<Output = ()> + Send + 'static>(
    rounds: impl Fn(String) -> F,
) -> Duration {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..TASKS {
        tasks.spawn(rounds(format!("bench {number}")));
    }
    tasks.join_all().await;
    start.elapsed() / TASKS / (ROUNDS / 10)
}
