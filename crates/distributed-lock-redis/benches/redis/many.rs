//! A hundred thousand locks held by one process: what keeping them costs.

use std::time::{Duration, Instant};

use distributed_lock_core::traits::{LockHandle, LockProviderExt};
use distributed_lock_redis::RedisLockProvider;
use distributed_lock_testkit::servers::RedisServer;
use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinSet;

const LOCKS: usize = 100_000;
const EXPIRY: Duration = Duration::from_secs(30);
const RENEWALS: u32 = 3;

pub(crate) fn run(server: &RedisServer) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(hold(server));
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
async fn hold(server: &RedisServer) {
    let builder = RedisLockProvider::builder().add_server(server.url()).expiry(EXPIRY);
    let provider = builder.build().await.unwrap();
    let before = memory();
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for task in 0..100 {
        let provider = provider.clone();
        tasks.spawn(async move {
            let mut held = Vec::with_capacity(LOCKS / 100);
            for number in 0..LOCKS / 100 {
                held.push(
                    provider.acquire_lock(&format!("many {task} {number}"), None).await.unwrap(),
                );
            }
            held
        });
    }
    let held: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    println!("{LOCKS} locks acquired in {:.1?}", began.elapsed());
    let each = memory().saturating_sub(before) * 1024 / LOCKS;
    let (cpu, wall) = (processor_time(), Instant::now());
    tokio::time::sleep(EXPIRY / 3 * RENEWALS).await;
    let share = (processor_time() - cpu).as_secs_f64() / wall.elapsed().as_secs_f64();
    let lost = held.iter().filter(|handle| handle.is_lost()).count();
    let clients = server.cli(&["CLIENT", "LIST", "TYPE", "NORMAL"]).lines().count();
    println!(
        "{LOCKS} locks held for {RENEWALS} renewals: {lost} lost, CPU ÷ wall {share:.3} (goal < 0.1), \
         {each} bytes each (goal ≤ 1024), {clients} connections with the one that counts"
    );
    assert_eq!(lost, 0);
    drop(held);
    provider_shutdown(&provider).await;
}

async fn provider_shutdown(provider: &RedisLockProvider) {
    use distributed_lock_core::traits::Provider;
    assert!(provider.shutdown().await.is_empty());
}

/// Resident memory in KiB.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Of all threads of this process.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}
