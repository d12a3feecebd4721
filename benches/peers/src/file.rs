//! Files: `fd-lock` and `fs4` lock an open file and no more. To make the work equal, opening it and
//! checking that it is still the one at its path are added by plain calls, and a lock that is handed
//! over is polled, because they have no wake-up.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use distributed_lock_core::traits::{DistributedLock, LockHandle, LockProvider};
use published_core::{
    DistributedLock as PublishedLock, LockHandle as PublishedHandle,
    LockProvider as PublishedProvider,
};

use crate::{handed, report};

const BLOCKS: usize = 40;
const HAND_OVERS: usize = 15;
const NAMES: [&str; 4] = ["this library", "distributed-lock 0.2.0", "fd-lock 4.0.4", "fs4 1.1.0"];

pub(crate) async fn run() {
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
        blocks[0].push(timed!(ours.acquire(None).await.unwrap().release().await.unwrap()));
        blocks[1].push(timed!({
            let handle = PublishedLock::acquire(&published, None).await.unwrap();
            PublishedHandle::release(handle).await.unwrap();
        }));
        blocks[2].push(timed!({
            let mut lock = fd_lock::RwLock::new(open(&fd_lock));
            let guard = lock.try_write().unwrap();
            check_inode(&guard, &fd_lock);
        }));
        blocks[3].push(timed!({
            let file = open(&fs4);
            fs4::FileExt::try_lock(&file).unwrap();
            check_inode(&file, &fs4);
            fs4::FileExt::unlock(&file).unwrap();
        }));
    }
    report("files: acquire + release", &NAMES, &blocks);
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
        times[0].push(handed(wait, async { held.release().await.unwrap() }).await.0);

        let held = PublishedLock::acquire(&published_here, None).await.unwrap();
        let wait = async {
            let handle = PublishedLock::acquire(&published_there, None).await.unwrap();
            PublishedHandle::release(handle).await.unwrap();
        };
        let release = async { PublishedHandle::release(held).await.unwrap() };
        times[1].push(handed(wait, release).await.0);

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
            times[index].push(handed(wait, async { drop(held) }).await.0);
        }
    }
    report("files: hand-over (fd-lock and fs4 by polls of 10 ms)", &NAMES, &times);
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

fn check_inode(file: &File, path: &Path) {
    let (held, there) = (file.metadata().unwrap(), path.symlink_metadata().unwrap());
    assert_eq!((held.dev(), held.ino()), (there.dev(), there.ino()));
}
