//! Acquire and release of a free lock.

use std::path::Path;
use std::time::{Duration, Instant};

use distributed_lock_core::traits::{DistributedLock, LockHandle, LockProvider};
use distributed_lock_file::FileLockProvider;

use crate::{bare, report};

const BLOCKS: usize = 60;
const ROUNDS: u32 = 500;

pub(crate) fn run() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let provider = FileLockProvider::builder().build(directory.path()).unwrap();
    let lock = provider.create_lock("bench");
    let path = directory.path().join("bare.lock");
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..BLOCKS {
        bare.push(bare_block(&path));
        ours.push(runtime.block_on(our_block(&lock)));
    }
    report("uncontended acquire + release", 2.0, &bare, &ours);
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn bare_block(path: &Path) -> Duration {
    let start = Instant::now();
    for _ in 0..ROUNDS {
        bare::lock_and_unlock(path);
    }
    start.elapsed() / ROUNDS
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
pub(crate) async fn our_block(lock: &impl DistributedLock) -> Duration {
    let start = Instant::now();
    for _ in 0..ROUNDS {
        lock.acquire(None).await.unwrap().release().await.unwrap();
    }
    start.elapsed() / ROUNDS
}
