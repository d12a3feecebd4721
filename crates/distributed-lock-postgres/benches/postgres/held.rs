//! Ten thousand locks held by one process: what each costs.

use std::time::Instant;

use distributed_lock_core::traits::{LockHandle, LockProviderExt};
use distributed_lock_testkit::servers::PostgresServer;
use tokio::task::JoinSet;

use crate::{provider, runtimes};

const LOCKS: usize = 10_000;
const TASKS: usize = 64;

pub(crate) fn run(server: &PostgresServer) {
    let [_, (_, runtime)] = runtimes();
    runtime.block_on(hold(server));
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
async fn hold(server: &PostgresServer) {
    let provider = provider(&server.url()).await;
    let (before, start) = (memory(), Instant::now());
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let provider = provider.clone();
        tasks.spawn(async move {
            let mut held = Vec::new();
            for number in (task..LOCKS).step_by(TASKS) {
                let handle = provider.try_acquire_lock(&format!("held lock {number}")).await;
                held.push(handle.unwrap().unwrap());
            }
            held
        });
    }
    let held = tasks.join_all().await;
    let (acquired, each) = (start.elapsed(), memory().saturating_sub(before) * 1024 / LOCKS);
    let count = |words| server.psql(words).unwrap();
    let locks = count("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'");
    assert_eq!(locks, LOCKS.to_string());
    let connections =
        count("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'distributed-lock'");
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for held in held {
        tasks.spawn(async move {
            for handle in held {
                handle.release().await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    println!(
        "{LOCKS} locks: acquired in {acquired:.2?}, released in {:.2?} (goal < 3 s), {each} bytes each \
         (goal ≤ 1024), {connections} connections (goal ≤ 2)",
        start.elapsed()
    );
}

/// Resident memory in KiB.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
