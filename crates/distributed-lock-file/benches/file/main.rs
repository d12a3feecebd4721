//! File locks beside the same work by plain calls, in one run.
//!
//! Figures are medians and ratios. Variants run in alternating blocks, because the machine's speed
//! drifts; spinners at the lowest priority keep the cores awake, because waking an idle core costs
//! more than a lock. This process and the others that take part are each bound to a core of their
//! own, because a switch on one core and a wake-up of another differ by a factor of two.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and may fail")]

mod bare;
mod hand_over;
mod spinner;
mod telemetry;
mod uncontended;

use std::time::Duration;

fn main() {
    if let Some(role) = std::env::args().skip_while(|arg| arg != "--role").nth(1) {
        return hand_over::child(&role);
    }
    let _spinners = spinner::start();
    spinner::bind_to_core(0);
    uncontended::run();
    telemetry::run();
    hand_over::run();
}

/// Prints one line: what, the medians of both sides, and the median of the ratios block by block
/// against the goal. Each entry is one block; blocks of the same index ran one after the other.
fn report(what: &str, goal: f64, bare: &[Duration], ours: &[Duration]) {
    let ratios = bare.iter().zip(ours).map(|(bare, ours)| ours.as_secs_f64() / bare.as_secs_f64());
    let ratio = median(ratios.collect(), f64::total_cmp);
    let (bare, ours) = (median(bare.to_vec(), Ord::cmp), median(ours.to_vec(), Ord::cmp));
    println!("{what:<52} bare {bare:>9.2?}  ours {ours:>9.2?}  ratio {ratio:.2} (goal ≤ {goal})");
}

/// Prints one line: what, its median, and which share of a whole lock that is, against the goal.
fn report_share(what: &str, goal: f64, took: Duration, share: f64) {
    println!(
        "{what:<52} {took:>9.2?}  {:.2} % of a lock (goal ≤ {} %)",
        share * 100.0,
        goal * 100.0
    );
}

fn median<T: Copy>(mut values: Vec<T>, order: impl FnMut(&T, &T) -> std::cmp::Ordering) -> T {
    values.sort_by(order);
    values[values.len() / 2]
}
