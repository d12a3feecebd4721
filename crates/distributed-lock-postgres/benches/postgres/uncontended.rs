//! Acquire and release of a free lock.

use std::time::{Duration, Instant};

use distributed_lock_core::traits::{DistributedLock, LockHandle, LockProvider};
use distributed_lock_testkit::servers::PostgresServer;

use crate::bare::Bare;
use crate::{provider, report, runtimes};

const BLOCKS: usize = 60;
const ROUNDS: u32 = 100;

pub(crate) fn run(server: &PostgresServer) {
    for (name, runtime) in runtimes() {
        // In a task of its own, as in a program, and not on the thread that blocks on it.
        let url = server.url();
        let times = runtime.spawn(async move {
            let bare = Bare::connect(&url).await;
            let lock = provider(&url).await.create_lock("uncontended lock");
            let mut times = (Vec::new(), Vec::new());
            for _ in 0..BLOCKS {
                times.0.push(bare_block(&bare).await);
                times.1.push(our_block(&lock).await);
            }
            times
        });
        let (bare, ours) = runtime.block_on(times).unwrap();
        report(&format!("uncontended acquire + release, {name} runtime"), "≤ 1.15", &bare, &ours);
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
async fn bare_block(bare: &Bare) -> Duration {
    let start = Instant::now();
    for _ in 0..ROUNDS {
        bare.try_lock(1).await;
        bare.unlock(1).await;
    }
    start.elapsed() / ROUNDS
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
async fn our_block(lock: &impl DistributedLock) -> Duration {
    let start = Instant::now();
    for _ in 0..ROUNDS {
        lock.acquire(None).await.unwrap().release().await.unwrap();
    }
    start.elapsed() / ROUNDS
}
