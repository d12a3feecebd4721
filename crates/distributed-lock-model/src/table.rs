//! The table of what was found, for people.

use std::fmt::Write as _;

use crate::check::Report;

/// A Markdown table: states, time and verdict for each variant.
#[must_use]
pub fn table(reports: &[Report]) -> String {
    let mut table =
        String::from("| variant | bounds | states | time | verdict |\n|---|---|---:|---:|---|\n");
    for report in reports {
        let verdict = match &report.violated {
            None => "holds in every state".to_owned(),
            Some((property, steps)) => format!("**violated** after {steps} steps: {property}"),
        };
        let Report { title, bounds, states, .. } = report;
        let seconds = report.took.as_secs_f64();
        // Writing to a string does not fail.
        let _ = writeln!(table, "| {title} | {bounds} | {states} | {seconds:.1} s | {verdict} |");
    }
    table
}
