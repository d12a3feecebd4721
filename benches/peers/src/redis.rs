//! Redis, one server and five. The mutex of `distributed-lock` 0.2.0 cannot wait, so the hand-over is that of a
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
    let one = [server.url()];
    uncontended("Redis: acquire + release", &one).await;
    hand_over(&one).await;
    hand_over_of_a_permit(&one).await;
    let five: Vec<_> = (0..5).map(|_| RedisServer::start(&[])).collect();
    let urls: Vec<_> = five.iter().map(RedisServer::url).collect();
    uncontended("Redis, five servers: acquire + release", &urls).await;
}

async fn ours(urls: &[String]) -> RedisLockProvider {
    let builder = RedisLockProvider::builder();
    urls.iter().fold(builder, |builder, url| builder.add_server(url)).build().await.unwrap()
}

async fn published(urls: &[String]) -> published_redis::RedisLockProvider {
    published_redis::RedisLockProvider::builder().urls(urls).build().await.unwrap()
}

async fn uncontended(what: &str, urls: &[String]) {
    let ours = ours(urls).await.create_lock("peers lock");
    let published = PublishedProvider::create_lock(&published(urls).await, "published peers lock");
    let rslock = LockManager::new(urls.to_vec());
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
    report(what, &names, &blocks);
}

async fn hand_over(urls: &[String]) {
    let lock = |provider: RedisLockProvider| provider.create_lock("handed");
    let (here, there) = (lock(ours(urls).await), lock(ours(urls).await));
    let (rslock_here, rslock_there) =
        (LockManager::new(urls.to_vec()), LockManager::new(urls.to_vec()));
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

async fn hand_over_of_a_permit(urls: &[String]) {
    let semaphore = |provider: RedisLockProvider| provider.create_semaphore("handed", 1);
    let (here, there) = (semaphore(ours(urls).await), semaphore(ours(urls).await));
    let published = async || {
        let provider = published(urls).await;
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
