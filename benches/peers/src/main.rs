//! This library beside published crates, equal work, in one run.
//!
//! Prints the median of each and its ratio to this library's, block by block.

/// The time that a round takes. Not a function of a closure, whose future would not be `Send`.
macro_rules! timed {
    ($round:expr) => {{
        let start = std::time::Instant::now();
        for _ in 0..crate::ROUNDS {
            $round
        }
        start.elapsed() / crate::ROUNDS
    }};
}

mod file;
mod postgres;
mod redis;

use std::future::Future;
use std::time::{Duration, Instant};

const ROUNDS: u32 = 250;
/// Until a waiter waits.
const SETTLE: Duration = Duration::from_millis(20);

#[tokio::main(worker_threads = 2)]
async fn main() {
    // In a task, as in a program: the thread that blocks on the runtime is none of its workers.
    tokio::spawn(file::run()).await.unwrap();
    tokio::spawn(postgres::run()).await.unwrap();
    tokio::spawn(redis::run()).await.unwrap();
}

/// The time from the release to the end of the wait, and what that brought.
async fn handed<T>(
    wait: impl Future<Output = T>,
    release: impl Future<Output = ()>,
) -> (Duration, T) {
    let released = async {
        tokio::time::sleep(SETTLE).await;
        let start = Instant::now();
        release.await;
        start
    };
    let waited = async {
        let granted = wait.await;
        (Instant::now(), granted)
    };
    let (start, (end, granted)) = tokio::join!(released, waited);
    (end.saturating_duration_since(start), granted)
}

/// The first is this library.
fn report(what: &str, names: &[&str], blocks: &[Vec<Duration>]) {
    println!("{what}");
    for (name, times) in names.iter().zip(blocks) {
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
