//! What it costs to tell nobody: metrics and spans of one lock, without a recorder or subscriber.

use std::hint::black_box;
use std::time::{Duration, Instant};

use distributed_lock_core::telemetry::Rehearsal;
use distributed_lock_core::traits::LockProvider;
use distributed_lock_file::FileLockProvider;

use crate::uncontended::our_block;
use crate::{median, report_share};

const BLOCKS: usize = 60;
const ROUNDS: u32 = 20_000;

pub(crate) fn run() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let provider = FileLockProvider::builder().build(directory.path()).unwrap();
    let (lock, rehearsal) = (provider.create_lock("bench"), Rehearsal::default());
    let (mut locks, mut told) = (Vec::new(), Vec::new());
    for _ in 0..BLOCKS {
        locks.push(runtime.block_on(our_block(&lock)));
        told.push(block(&rehearsal));
    }
    let share = locks.iter().zip(&told).map(|(lock, told)| told.div_duration_f64(*lock));
    let share = median(share.collect(), f64::total_cmp);
    report_share("telemetry of one lock, nobody listens", 0.02, median(told, Ord::cmp), share);
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn block(rehearsal: &Rehearsal) -> Duration {
    let start = Instant::now();
    for _ in 0..ROUNDS {
        rehearsal.one_lock(black_box("bench"));
    }
    start.elapsed() / ROUNDS
}
