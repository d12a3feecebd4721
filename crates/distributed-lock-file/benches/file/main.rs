//! File locks beside the same work by plain calls, in one run.
//!
//! Figures are medians and ratios. Variants run in alternating blocks, because the machine's speed
//! drifts; spinners at the lowest priority keep the cores awake, because waking an idle core costs
//! more than a lock.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and may fail")]

mod bare;
mod hand_over;
mod spinner;
mod uncontended;

use std::time::Duration;

fn main() {
    if let Some(role) = std::env::args().skip_while(|arg| arg != "--role").nth(1) {
        return hand_over::child(&role);
    }
    let _spinners = spinner::start();
    uncontended::run();
    hand_over::run();
}

/// Prints one line: what, the baseline's median, ours, and their ratio against the goal.
fn report(what: &str, goal: f64, bare: &mut [Duration], ours: &mut [Duration]) {
    let (bare, ours) = (median(bare), median(ours));
    let ratio = ours.as_secs_f64() / bare.as_secs_f64();
    println!("{what:<58} bare {bare:>10.2?}  ours {ours:>10.2?}  ratio {ratio:.2} (goal ≤ {goal})");
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
