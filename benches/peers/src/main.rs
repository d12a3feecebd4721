//! File locks of this library beside published crates, equal work, in one run.
//!
//! Prints the median of each and its ratio to this library's, block by block. `fd-lock` and `fs4`
//! lock an open file and no more; to make the work equal, opening it and checking that it is still
//! the one at its path are added by plain calls, and a lock that is handed over is polled, because
//! they have no wake-up.

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use distributed_lock_core::traits::{DistributedLock, LockHandle, LockProvider};
use published_core::{
    DistributedLock as PublishedLock, LockHandle as PublishedHandle,
    LockProvider as PublishedProvider,
};

const BLOCKS: usize = 40;
const ROUNDS: u32 = 250;
const HAND_OVERS: usize = 15;
/// Until a waiter waits.
const SETTLE: Duration = Duration::from_millis(20);

#[tokio::main(worker_threads = 2)]
async fn main() {
    let directory = tempfile::tempdir().unwrap();
    uncontended(directory.path()).await;
    hand_over(directory.path()).await;
}

async fn uncontended(directory: &Path) {
    let ours = distributed_lock_file::FileLockProvider::builder().build(directory).unwrap();
    let ours = ours.create_lock("bench");
    let published = published_file::FileLockProvider::builder();
    let published = published.directory(directory.join("published")).build().unwrap();
    let published = PublishedProvider::create_lock(&published, "bench");
    let (fd_lock, fs4) = (directory.join("fd-lock"), directory.join("fs4"));
    let mut blocks: [Vec<Duration>; 4] = Default::default();
    for _ in 0..BLOCKS {
        blocks[0]
            .push(timed(async || ours.acquire(None).await.unwrap().release().await.unwrap()).await);
        blocks[1].push(
            timed(async || {
                let handle = PublishedLock::acquire(&published, None).await.unwrap();
                PublishedHandle::release(handle).await.unwrap();
            })
            .await,
        );
        blocks[2].push(
            timed(async || {
                let mut lock = fd_lock::RwLock::new(open(&fd_lock));
                let guard = lock.try_write().unwrap();
                check_inode(&guard, &fd_lock);
            })
            .await,
        );
        blocks[3].push(
            timed(async || {
                let file = open(&fs4);
                fs4::FileExt::try_lock(&file).unwrap();
                check_inode(&file, &fs4);
                fs4::FileExt::unlock(&file).unwrap();
            })
            .await,
        );
    }
    report("acquire + release", &blocks);
}

async fn hand_over(directory: &Path) {
    let build = || distributed_lock_file::FileLockProvider::builder().build(directory).unwrap();
    let (here, there) = (build().create_lock("handed"), build().create_lock("handed"));
    let publish = || {
        let builder = published_file::FileLockProvider::builder();
        let provider = builder.directory(directory.join("published")).build().unwrap();
        PublishedProvider::create_lock(&provider, "handed")
    };
    let (published_here, published_there) = (publish(), publish());
    let path = directory.join("polled");
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..HAND_OVERS {
        let held = here.acquire(None).await.unwrap();
        let lock = there.clone();
        let wait = async move { lock.acquire(None).await.unwrap().release().await.unwrap() };
        times[0].push(handed(wait, async { held.release().await.unwrap() }).await);

        let held = PublishedLock::acquire(&published_here, None).await.unwrap();
        let wait = async {
            let handle = PublishedLock::acquire(&published_there, None).await.unwrap();
            PublishedHandle::release(handle).await.unwrap();
        };
        times[1].push(handed(wait, async { PublishedHandle::release(held).await.unwrap() }).await);

        for index in [2, 3] {
            let held = open(&path);
            held.lock().unwrap();
            let wait = async {
                let mut lock = fd_lock::RwLock::new(open(&path));
                let file = open(&path);
                while match index {
                    2 => lock.try_write().is_err(),
                    _ => fs4::FileExt::try_lock(&file).is_err(),
                } {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            times[index].push(handed(wait, async { drop(held) }).await);
        }
    }
    report("hand-over (fd-lock and fs4 by polls of 10 ms)", &times);
}

/// The time from the release to the end of the wait.
async fn handed(wait: impl Future<Output = ()>, release: impl Future<Output = ()>) -> Duration {
    let released = async {
        tokio::time::sleep(SETTLE).await;
        let start = Instant::now();
        release.await;
        start
    };
    let waited = async {
        wait.await;
        Instant::now()
    };
    let (start, end) = tokio::join!(released, waited);
    end.saturating_duration_since(start)
}

async fn timed(mut round: impl AsyncFnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..ROUNDS {
        round().await;
    }
    start.elapsed() / ROUNDS
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

fn check_inode(file: &File, path: &Path) {
    let (held, there) = (file.metadata().unwrap(), path.symlink_metadata().unwrap());
    assert_eq!((held.dev(), held.ino()), (there.dev(), there.ino()));
}

fn report(what: &str, blocks: &[Vec<Duration>; 4]) {
    println!("{what}");
    let names = ["this library", "distributed-lock 0.2.0", "fd-lock 4.0.4", "fs4 1.1.0"];
    for (name, times) in names.into_iter().zip(blocks) {
        let mut ratios: Vec<f64> = times
            .iter()
            .zip(&blocks[0])
            .map(|(t, ours)| t.as_secs_f64() / ours.as_secs_f64())
            .collect();
        ratios.sort_by(f64::total_cmp);
        let mut times = times.clone();
        times.sort();
        let (median, ratio) = (times[times.len() / 2], ratios[ratios.len() / 2]);
        println!("  {name:<24} {median:>10.2?}  {ratio:>8.2} x this library");
    }
}
