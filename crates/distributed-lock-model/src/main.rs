//! Checks every variant and writes the table; `cargo xtask model` runs it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for developers")]

use std::process::ExitCode;

use distributed_lock_model::{Bounds, Report, Variant, check, table};

const HEAD: &str = "\
# RedLock, model-checked

`cargo xtask model` makes this table. Two clients drive the machines of `distributed_lock_redis::redlock` against modelled
servers; requests overtake each other, are lost, answered too late or not at all, and servers restart without their data.
In every state that can be reached within the bounds, at most one client believes that it holds the lock, and a client that
is done, with nothing of its own on its way, has nothing at any server. The other variants are known mistakes, made in the model and not
in the product: each must be found.

";

fn main() -> ExitCode {
    let right = [Bounds::rounds(), Bounds::hold(), Bounds::five(), Bounds::everything()];
    let right = right.map(|bounds| (Variant::Right, bounds));
    let wrong = Variant::ALL[1..].iter().map(|variant| (*variant, Bounds::telling(*variant)));
    let mut reports: Vec<Report> = Vec::new();
    for (variant, bounds) in right.into_iter().chain(wrong) {
        let report = check(variant, bounds);
        eprintln!("{}: {} states, {:?}", variant.title(), report.states, report.violated);
        reports.push(report);
    }
    print!("{HEAD}{}", table(&reports));
    let as_it_must = |report: &Report| match report.variant {
        Variant::Right => report.violated.is_none() && report.is_meaningful,
        _ => report.violated.is_some(),
    };
    if reports.iter().all(as_it_must) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
