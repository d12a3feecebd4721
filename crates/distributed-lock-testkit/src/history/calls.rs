//! I7, I8: calls end, and locks can be had again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::attempts::{Answer, Attempt, History, Point, Resource};
use super::rules::{Invariant, Rules, Violation};
use super::timeline::timeline;

pub(super) fn check(history: &History<'_>, rules: &Rules) -> Vec<Violation> {
    let mut found = late_calls(history, rules);
    found.extend(lost_for_good(history));
    found
}

fn late_calls(history: &History<'_>, rules: &Rules) -> Vec<Violation> {
    let mut found = Vec::new();
    let limit = rules.operation_timeout + rules.epsilon;
    let mut call = |attempt: &Attempt<'_>, call: &str, from: Point, to: Option<Point>, bound| {
        let ended = to.map_or(history.end, |point| point.at);
        let stalls = |by: &Point| *by > from && by.at <= ended;
        // A death is logged just before the kill: a call may still begin after it.
        let dies = |died: Point| died.at + rules.epsilon >= from.at && died.at <= ended;
        let excused = attempt.stalled.iter().any(stalls) || attempt.died.is_some_and(dies);
        if excused || ended <= from.at + bound {
            return;
        }
        let state = if to.is_some() { "took" } else { "has not ended after" };
        let (who, lock, took) = (attempt.name(), attempt.resource.lock, ended - from.at);
        let drawn = timeline(&[attempt]);
        let text = format!("{call} of {lock:?} by {who} {state} {took:?}, not {bound:?}{drawn}");
        found.push(Violation { invariant: Invariant::CallsEnd, text });
    };
    for attempt in &history.attempts {
        if let Some(deadline) = attempt.deadline {
            let answered = attempt.answered.map(|(point, _)| point);
            let bound = deadline.saturating_add(limit);
            // What saturates is as good as no deadline.
            if bound < Duration::MAX - attempt.invoked.at {
                call(attempt, "acquire", attempt.invoked, answered, bound);
            }
        }
        if let Some(release) = attempt.release_invoked {
            call(attempt, "release", release, attempt.release_answered, limit);
        }
    }
    found
}

/// Locks that nobody got after the quiet.
fn lost_for_good(history: &History<'_>) -> Vec<Violation> {
    let Some(quiet) = history.quiet else { return Vec::new() };
    let mut acquired: BTreeMap<Resource<'_>, bool> = BTreeMap::new();
    for attempt in &history.attempts {
        let granted = matches!(attempt.answered, Some((at, Answer::Acquired { .. })) if at > quiet);
        *acquired.entry(attempt.resource).or_default() |= granted;
    }
    let lost = acquired.into_iter().filter(|(_, acquired)| !acquired);
    lost.map(|(resource, _)| {
        let asked = |attempt: &&Attempt<'_>| {
            let ends = attempt.wait_ends().is_none_or(|end| end > quiet);
            attempt.resource == resource && ends
        };
        let asked: Vec<_> = history.attempts.iter().filter(asked).take(8).collect();
        let kind = if resource.semaphore { "semaphore" } else { "lock" };
        let (name, drawn) = (resource.lock, timeline(&asked));
        let text = format!("nobody got the {kind} {name:?} after the faults had ended{drawn}");
        Violation { invariant: Invariant::AcquirableAfterQuiet, text }
    })
    .collect()
}
