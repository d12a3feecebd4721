//! Many tasks, each with a name of its own, on one connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use distributed_lock_core::traits::{LockHandle, LockProviderExt};
use distributed_lock_postgres::PostgresLockProvider;
use distributed_lock_testkit::servers::PostgresServer;
use tokio::task::JoinSet;

use crate::bare::Bare;
use crate::{provider, report, runtimes};

const BLOCKS: usize = 30;
const TASKS: i64 = 64;
const ROUNDS: u32 = 20;

pub(crate) fn run(server: &PostgresServer) {
    for (name, runtime) in runtimes() {
        let url = server.url();
        let times = runtime.spawn(async move {
            let (bare, provider) = (Arc::new(Bare::connect(&url).await), provider(&url).await);
            let mut times = (Vec::new(), Vec::new());
            for _ in 0..BLOCKS {
                times.0.push(bare_block(&bare).await);
                times.1.push(our_block(&provider).await);
            }
            times
        });
        let (bare, ours) = runtime.block_on(times).unwrap();
        // At least 0.8 times as many in the same time.
        report(&format!("64 tasks × 20 acquire + release, {name} runtime"), "≤ 1.25", &bare, &ours);
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
async fn bare_block(bare: &Arc<Bare>) -> Duration {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for key in 0..TASKS {
        let bare = Arc::clone(bare);
        tasks.spawn(async move {
            for _ in 0..ROUNDS {
                bare.try_lock(key).await;
                bare.unlock(key).await;
            }
        });
    }
    tasks.join_all().await;
    start.elapsed()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
async fn our_block(provider: &PostgresLockProvider) -> Duration {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for key in 0..TASKS {
        let provider = provider.clone();
        tasks.spawn(async move {
            let name = format!("pipelined lock {key}");
            for _ in 0..ROUNDS {
                let handle = provider.acquire_lock(&name, None).await.unwrap();
                handle.release().await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    start.elapsed()
}
