//! I1, I2, I3: who holds beside whom. One sweep over the starts and ends of all holds.

use std::collections::HashMap;

use distributed_lock_core::Mode;

use super::attempts::{Attempt, History, Resource};
use super::rules::{Invariant, Rules, Violation};
use super::timeline::timeline;

/// A start or end of a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Edge {
    Starts,
    Ends,
}

/// What comes first of one time: a hold that ends does not overlap one that starts, and one that
/// took no time lies between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Ends,
    TakesNoTime,
    Starts,
}

/// The starts and ends of all holds that count, in order, with the index of their attempt.
pub(super) fn edges(history: &History<'_>, rules: &Rules) -> Vec<(Edge, usize)> {
    let mut edges = Vec::new();
    for (index, attempt) in history.attempts.iter().enumerate() {
        let Some(start) = attempt.hold_starts(rules) else { continue };
        let ends = attempt.hold_ends;
        let no_time = ends.is_some_and(|end| end.at == start.at);
        let turn = |turn| if no_time { Turn::TakesNoTime } else { turn };
        edges.push((start.at, turn(Turn::Starts), index, Edge::Starts));
        edges.extend(ends.map(|end| (end.at, turn(Turn::Ends), index, Edge::Ends)));
    }
    edges.sort_unstable();
    edges.into_iter().map(|(_, _, index, edge)| (edge, index)).collect()
}

pub(super) fn check(history: &History<'_>, rules: &Rules) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut held: HashMap<Resource<'_>, Vec<usize>> = HashMap::new();
    for (edge, index) in edges(history, rules) {
        let attempt = &history.attempts[index];
        let held = held.entry(attempt.resource).or_default();
        match edge {
            Edge::Ends => held.retain(|other| *other != index),
            Edge::Starts => {
                let others: Vec<_> = held.iter().map(|other| &history.attempts[*other]).collect();
                found.extend(start(attempt, &others));
                held.push(index);
            }
        }
    }
    found
}

/// What is wrong with a hold that starts beside others.
fn start(attempt: &Attempt<'_>, others: &[&Attempt<'_>]) -> Vec<Violation> {
    let lock = attempt.resource.lock;
    if let Mode::Permit { max } = attempt.mode {
        let all = || others.iter().chain([&attempt]).copied();
        let max = all().filter_map(permits).max().unwrap_or(max);
        if u32::try_from(others.len()).is_ok_and(|others| others < max) {
            return Vec::new();
        }
        let holds = others.len() + 1;
        let text = format!("{holds} holds of {max} permits of {lock:?}");
        return vec![violation(Invariant::PermitsBounded, &text, &all().collect::<Vec<_>>())];
    }
    let conflicts = |other: &&&Attempt<'_>| [attempt.mode, other.mode].contains(&Mode::Exclusive);
    let conflict = |other: &&Attempt<'_>| {
        if attempt.mode == other.mode {
            let text = format!("two exclusive holds of {lock:?}");
            violation(Invariant::OneExclusive, &text, &[other, attempt])
        } else {
            let text = format!("an exclusive hold of {lock:?} beside a shared one");
            violation(Invariant::ReadersOrWriter, &text, &[other, attempt])
        }
    };
    others.iter().filter(conflicts).map(conflict).collect()
}

fn permits(attempt: &Attempt<'_>) -> Option<u32> {
    match attempt.mode {
        Mode::Permit { max } => Some(max),
        Mode::Exclusive | Mode::Shared => None,
    }
}

fn violation(invariant: Invariant, text: &str, attempts: &[&Attempt<'_>]) -> Violation {
    Violation { invariant, text: format!("{text}{}", timeline(attempts)) }
}
