//! Redis, one server. The mutex of `distributed-lock` 0.2.0 cannot wait, so the hand-over is that of a
//! semaphore with one permit, beside ours; `rslock` tries again after up to 200 ms, its default.

use std::time::Duration;

use distributed_lock_core::traits::{
    DistributedLock, DistributedSemaphore, LockHandle, LockProvider, SemaphoreProvider,
};
use distributed_lock_redis::RedisLockProvider;
use distributed_lock_testkit::servers::RedisServer;
use published_core::{
    DistributedLock as PublishedLock, DistributedSemaphore as PublishedSemaphore,
    LockHandle as PublishedHandle, LockProvider as PublishedProvider,
    SemaphoreProvider as PublishedSemaphores,
};
use rslock::LockManager;

use crate::{handed, report};

const BLOCKS: usize = 30;
const HAND_OVERS: usize = 60;
/// The default of the others, and what `rslock` is told.
const LEASE: Duration = Duration::from_secs(30);

pub(crate) async fn run() {
    let server = RedisServer::start(&[]);
    uncontended(&server.url()).await;
    hand_over(&server.url()).await;
    hand_over_of_a_permit(&server.url()).await;
}

async fn ours(url: &str) -> RedisLockProvider {
    RedisLockProvider::builder().add_server(url).build().await.unwrap()
}

async fn published(url: &str) -> published_redis::RedisLockProvider {
    published_redis::RedisLockProvider::new(url).await.unwrap()
}

async fn uncontended(url: &str) {
    let ours = ours(url).await.create_lock("peers lock");
    let published = PublishedProvider::create_lock(&published(url).await, "published peers lock");
    let rslock = LockManager::new(vec![url]);
    let mut blocks: [Vec<Duration>; 3] = Default::default();
    for _ in 0..BLOCKS {
        blocks[0].push(timed!(ours.acquire(None).await.unwrap().release().await.unwrap()));
        blocks[1].push(timed!({
            let handle = PublishedLock::acquire(&published, None).await.unwrap();
            PublishedHandle::release(handle).await.unwrap();
        }));
        blocks[2].push(timed!({
            rslock.acquire("rslock peers lock", LEASE).await.unwrap().release().await;
        }));
    }
    let names = ["this library", "distributed-lock 0.2.0", "rslock 0.10"];
    report("Redis: acquire + release", &names, &blocks);
}

async fn hand_over(url: &str) {
    let lock = |provider: RedisLockProvider| provider.create_lock("handed");
    let (here, there) = (lock(ours(url).await), lock(ours(url).await));
    let (rslock_here, rslock_there) = (LockManager::new(vec![url]), LockManager::new(vec![url]));
    let mut times: [Vec<Duration>; 2] = Default::default();
    for _ in 0..HAND_OVERS {
        let held = here.acquire(None).await.unwrap();
        let wait = there.acquire(None);
        let (time, handle) = handed(wait, async { held.release().await.unwrap() }).await;
        handle.unwrap().release().await.unwrap();
        times[0].push(time);

        let held = rslock_here.acquire("rslock handed", LEASE).await.unwrap();
        let wait = rslock_there.acquire("rslock handed", LEASE);
        let (time, handle) = handed(wait, held.release()).await;
        handle.unwrap().release().await;
        times[1].push(time);
    }
    report("Redis: hand-over", &["this library", "rslock 0.10"], &times);
}

async fn hand_over_of_a_permit(url: &str) {
    let semaphore = |provider: RedisLockProvider| provider.create_semaphore("handed", 1);
    let (here, there) = (semaphore(ours(url).await), semaphore(ours(url).await));
    let published = async || {
        let provider = published(url).await;
        PublishedSemaphores::create_semaphore(&provider, "published handed", 1)
    };
    let (published_here, published_there) = (published().await, published().await);
    let mut times: [Vec<Duration>; 2] = Default::default();
    for _ in 0..HAND_OVERS {
        let held = here.acquire(None).await.unwrap();
        let wait = there.acquire(None);
        let (time, handle) = handed(wait, async { held.release().await.unwrap() }).await;
        handle.unwrap().release().await.unwrap();
        times[0].push(time);

        let held = PublishedSemaphore::acquire(&published_here, None).await.unwrap();
        let wait = PublishedSemaphore::acquire(&published_there, None);
        let (time, handle) =
            handed(wait, async { PublishedHandle::release(held).await.unwrap() }).await;
        PublishedHandle::release(handle.unwrap()).await.unwrap();
        times[1].push(time);
    }
    let names = ["this library", "distributed-lock 0.2.0"];
    report("Redis: hand-over of the one permit", &names, &times);
}
