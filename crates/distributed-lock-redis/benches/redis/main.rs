//! Redis locks beside the same work by a bare client, in one run.
//!
//! Figures are medians and ratios. Variants run in alternating blocks, because the machine's speed
//! drifts; spinners at the lowest priority keep the cores awake, because waking an idle core costs
//! more than a request. Clients are bound to one core, the server to another.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and may fail")]

mod bare;
mod hand_over;
mod many;
mod redlock;
mod spinner;
mod uncontended;

use std::time::Duration;

use distributed_lock_testkit::servers::RedisServer;

fn main() {
    let role = |role: &str| std::env::args().skip_while(|argument| argument != role).nth(1);
    if let Some(url) = role("--waiter") {
        return hand_over::waiter(&url);
    }
    if let Some(url) = role("--bare-waiter") {
        return hand_over::bare_waiter(&url);
    }
    let server = RedisServer::start(&[]);
    spinner::bind_to_core(server.pid(), 1);
    spinner::bind_to_core(std::process::id(), 0);
    let spinners = spinner::start();
    let only = std::env::args().find(|argument| {
        ["uncontended", "many", "hand_over", "redlock"].contains(&argument.as_str())
    });
    let runs = |what: &str| only.as_deref().is_none_or(|only| only == what);
    if runs("uncontended") {
        uncontended::run(&server);
    }
    if runs("hand_over") {
        hand_over::run(&server);
    }
    if runs("redlock") {
        redlock::run(&server);
    }
    drop(spinners);
    if runs("many") {
        many::run(&server);
    }
}

/// Prints one line: what, the medians of both sides, and the median of the ratios block by block
/// against the goal. Each entry is one block; blocks of the same index ran one after the other.
fn report(what: &str, goal: &str, bare: &[Duration], ours: &[Duration]) {
    let ratios = bare.iter().zip(ours).map(|(bare, ours)| ours.as_secs_f64() / bare.as_secs_f64());
    let ratio = median(ratios.collect(), f64::total_cmp);
    let (bare, ours) = (median(bare.to_vec(), Ord::cmp), median(ours.to_vec(), Ord::cmp));
    println!("{what:<52} bare {bare:>9.2?}  ours {ours:>9.2?}  ratio {ratio:.2} (goal {goal})");
}

fn median<T: Copy>(mut values: Vec<T>, order: impl FnMut(&T, &T) -> std::cmp::Ordering) -> T {
    values.sort_by(order);
    values[values.len() / 2]
}
