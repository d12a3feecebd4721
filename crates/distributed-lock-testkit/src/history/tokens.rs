//! I4, I5: fencing tokens, as holders get them and as resources accept them.

use std::collections::HashMap;

use distributed_lock_core::Mode;

use super::attempts::{Answer, History, Resource};
use super::holds::{Edge, edges};
use super::rules::{Invariant, Rules, Violation};
use super::timeline::timeline;

pub(super) fn check(history: &History<'_>, rules: &Rules) -> Vec<Violation> {
    let mut found = distinct(history);
    found.extend(increasing(history, rules));
    found.extend(fenced(history));
    found
}

/// Every token comes once, also those of holds that count for nothing else.
fn distinct(history: &History<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut seen: HashMap<(Resource<'_>, u64), usize> = HashMap::new();
    for (index, attempt) in history.attempts.iter().enumerate() {
        let Some((_, Answer::Acquired { token: Some(token) })) = attempt.answered else { continue };
        if let Some(other) = seen.insert((attempt.resource, token), index) {
            let drawn = timeline(&[&history.attempts[other], attempt]);
            let text = format!("token {token} of {:?} came twice{drawn}", attempt.resource.lock);
            found.push(Violation { invariant: Invariant::TokensIncrease, text });
        }
    }
    found
}

/// The greatest tokens, and whose they are, of the holds of a resource that have ended.
#[derive(Debug, Default)]
struct Ended {
    exclusive: Option<(u64, usize)>,
    shared: Option<(u64, usize)>,
}

fn increasing(history: &History<'_>, rules: &Rules) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut ended: HashMap<Resource<'_>, Ended> = HashMap::new();
    for (edge, index) in edges(history, rules) {
        let attempt = &history.attempts[index];
        let Some(token) = attempt.token() else { continue };
        let ended = ended.entry(attempt.resource).or_default();
        let excludes_all = match attempt.mode {
            Mode::Exclusive | Mode::Permit { max: 1 } => true,
            Mode::Shared => false,
            // One of several permits conflicts with nobody in particular.
            Mode::Permit { .. } => continue,
        };
        match edge {
            Edge::Ends if excludes_all => {
                ended.exclusive = ended.exclusive.max(Some((token, index)))
            }
            Edge::Ends => ended.shared = ended.shared.max(Some((token, index))),
            Edge::Starts => {
                let shared = if excludes_all { ended.shared } else { None };
                let Some((before, other)) = ended.exclusive.max(shared) else { continue };
                if token < before {
                    let drawn = timeline(&[&history.attempts[other], attempt]);
                    let lock = attempt.resource.lock;
                    let text = format!("token {token} of {lock:?} after {before}{drawn}");
                    found.push(Violation { invariant: Invariant::TokensIncrease, text });
                }
            }
        }
    }
    found
}

fn fenced(history: &History<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut highest: HashMap<Resource<'_>, (u64, Option<usize>)> = HashMap::new();
    for write in history.writes.iter().filter(|write| write.accepted) {
        let (before, by) = highest.get(&write.resource).copied().unwrap_or((0, None));
        if write.token >= before {
            highest.insert(write.resource, (write.token, write.attempt));
            continue;
        }
        let involved: Vec<_> =
            [by, write.attempt].into_iter().flatten().map(|by| &history.attempts[by]).collect();
        let (token, lock, at) = (write.token, write.resource.lock, write.at.at);
        let drawn = timeline(&involved);
        let text = format!("{lock:?} accepted {token} after {before}, at {at:?}{drawn}");
        found.push(Violation { invariant: Invariant::ResourceFenced, text });
    }
    found
}
