//! I6: nobody is overtaken. In a worker first come, first served; among workers, where that is
//! promised, in the order of their places, one for each worker and lock.
//!
//! Only what is certain counts: somebody who was invoked an epsilon after the waiter had its place
//! was granted an epsilon before the waiter's wait was over.

use std::collections::BTreeMap;
use std::time::Duration;

use distributed_lock_core::Mode;

use super::attempts::{Answer, Attempt, History, Point, Resource};
use super::rules::{Invariant, Rules, Violation};
use super::timeline::timeline;

pub(super) fn check(history: &History<'_>, rules: &Rules) -> Vec<Violation> {
    let mut lines: BTreeMap<Resource<'_>, Vec<&Attempt<'_>>> = BTreeMap::new();
    for attempt in &history.attempts {
        lines.entry(attempt.resource).or_default().push(attempt);
    }
    let mut found = Vec::new();
    for attempts in lines.values() {
        let line = Line { attempts, history, rules };
        for (waiter, other) in line.overtaken() {
            let lock = waiter.resource.lock;
            let (who, by) = (waiter.name(), other.name());
            let drawn = timeline(&[waiter, other]);
            let text = format!("{who} was overtaken by {by} at {lock:?}{drawn}");
            found.push(Violation { invariant: Invariant::NotOvertaken, text });
        }
    }
    found
}

/// All attempts at one resource, in the order of their invocation.
struct Line<'h> {
    attempts: &'h [&'h Attempt<'h>],
    history: &'h History<'h>,
    rules: &'h Rules,
}

impl<'h> Line<'h> {
    /// Each waiter with the first that has overtaken it.
    fn overtaken(&self) -> Vec<(&'h Attempt<'h>, &'h Attempt<'h>)> {
        let mut found = Vec::new();
        for (index, &waiter) in self.attempts.iter().enumerate() {
            // A try does not wait; who got an error may have lost its place with its connection.
            let failed = matches!(waiter.answered, Some((_, Answer::Failed)));
            if waiter.deadline == Some(Duration::ZERO) || failed {
                continue;
            }
            let until = waiter.wait_ends().map_or(self.history.end, |point| point.at);
            let (before, after) = (&self.attempts[..index], &self.attempts[index + 1..]);
            let later = after.iter().copied().take_while(|other| other.invoked.at < until);
            let mut overtakers = later.filter(|other| self.overtakes(other, waiter, before, until));
            found.extend(overtakers.next().map(|other| (waiter, other)));
        }
        found
    }

    fn overtakes(
        &self,
        other: &Attempt<'_>,
        waiter: &Attempt<'_>,
        before: &[&Attempt<'_>],
        until: Duration,
    ) -> bool {
        let Some((granted, Answer::Acquired { .. })) = other.answered else { return false };
        let stalled = waiter.stalled.first().is_some_and(|stalled| *stalled < granted);
        if !conflict(waiter, other) || stalled || granted.at + self.rules.epsilon >= until {
            return false;
        }
        let mut placed = waiter.invoked.at;
        if waiter.resource.semaphore {
            // First tries for permits go to the server side by side.
            placed += self.rules.operation_timeout;
        }
        if other.who != waiter.who {
            let cleared = before.iter().filter(|earlier| earlier.who == waiter.who);
            let cleared = cleared.map(|earlier| self.out_of_the_way(earlier, waiter)).max();
            placed = placed.max(cleared.unwrap_or_default());
            if !self.rules.ordered
                || self.disturbed(waiter, granted)
                || self.joins_readers(other, granted)
                || self.inherits_a_place(other, placed)
            {
                return false;
            }
        }
        placed + self.rules.epsilon < other.invoked.at
    }

    /// When an earlier attempt of the same worker let this one go to the server.
    fn out_of_the_way(&self, earlier: &Attempt<'_>, waiter: &Attempt<'_>) -> Duration {
        let holds = matches!(earlier.answered, Some((_, Answer::Acquired { .. })));
        let exclusive = [earlier.mode, waiter.mode].contains(&Mode::Exclusive);
        let ends = if holds && exclusive {
            earlier.release_answered.or(earlier.lost).or(earlier.died)
        } else {
            earlier.wait_ends()
        };
        ends.map_or(self.history.end, |point| point.at)
    }

    /// A fault that strikes everybody may cost a place at the server.
    fn disturbed(&self, waiter: &Attempt<'_>, granted: Point) -> bool {
        self.history.general_faults.iter().any(|(at, lock)| {
            let concerns = lock.is_empty() || *lock == waiter.resource.lock;
            concerns && *at < granted && at.at + self.rules.operation_timeout >= waiter.invoked.at
        })
    }

    /// Readers may join a shared lock that their own worker holds.
    fn joins_readers(&self, other: &Attempt<'_>, granted: Point) -> bool {
        other.mode == Mode::Shared
            && self.attempts.iter().any(|reader| {
                let held = reader.answered.is_some_and(|(start, answer)| {
                    matches!(answer, Answer::Acquired { .. }) && start < granted
                });
                let until = reader.hold_ends.is_none_or(|end| end > other.invoked);
                reader.who == other.who && reader.mode == Mode::Shared && held && until
            })
    }

    /// The place of a waiter that gave up may serve the next one of its worker.
    fn inherits_a_place(&self, other: &Attempt<'_>, placed: Duration) -> bool {
        self.attempts.iter().any(|earlier| {
            let gave_up = matches!(earlier.answered, Some((end, Answer::Refused | Answer::Failed))
                if end.at + self.rules.epsilon >= other.invoked.at);
            earlier.who == other.who
                && gave_up
                && earlier.invoked < other.invoked
                && earlier.invoked.at <= placed + self.rules.epsilon
        })
    }
}

fn conflict(one: &Attempt<'_>, other: &Attempt<'_>) -> bool {
    (one.mode, other.mode) != (Mode::Shared, Mode::Shared)
}
