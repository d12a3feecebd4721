//! The history as it comes in, and who holds what right now.

use std::collections::{HashMap, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::history::{Event, What, now};

/// Collects what everybody logs.
#[derive(Debug, Default)]
pub struct Record {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<Event>,
    /// The locks of holds that have begun and not ended, by worker and attempt.
    held: HashMap<(String, u64), String>,
    /// Who has said that its load has ended.
    resting: HashSet<String>,
}

/// A place in the history, in the order in which it came in.
#[derive(Debug, Clone, Copy)]
pub struct Mark(usize);

/// A hold under way, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Whose.
    pub who: String,
    /// Of which lock.
    pub lock: String,
}

impl Record {
    /// Adds an event.
    pub fn add(&self, event: Event) {
        let mut state = self.lock();
        state.follow(&event);
        state.events.push(event);
        self.news.notify_all();
    }

    /// Logs what happens now, for the nemesis; the time.
    pub fn log(&self, who: &str, lock: &str, what: What) -> Duration {
        let at = now();
        self.add(Event { at, who: who.to_owned(), attempt: 0, lock: lock.to_owned(), what });
        at
    }

    /// Notes that a worker's load has ended.
    pub(super) fn rests(&self, who: &str) {
        self.lock().resting.insert(who.to_owned());
        self.news.notify_all();
    }

    /// Waits until a worker's load has ended; `None` if that takes longer than `limit`.
    pub(super) fn wait_rest(&self, who: &str, limit: Duration) -> Option<()> {
        let end = now() + limit;
        let mut state = self.lock();
        while !state.resting.remove(who) {
            state = self.wait(state, end)?;
        }
        Some(())
    }

    /// Who holds what.
    pub fn holds(&self) -> Vec<Hold> {
        self.lock().holds()
    }

    /// Everything so far, in the order of time.
    pub fn events(&self) -> Vec<Event> {
        let mut events = self.lock().events.clone();
        events.sort_by_key(|event| event.at);
        events
    }

    /// Where the history ends now: what happens from now on comes in after it.
    pub fn mark(&self) -> Mark {
        Mark(self.lock().events.len())
    }

    /// The first event after a mark that came in or comes in by `limit` and `is_it`.
    pub fn wait_for(
        &self,
        since: Mark,
        limit: Duration,
        is_it: impl Fn(&Event) -> bool,
    ) -> Option<Event> {
        let (end, Mark(mut seen)) = (now() + limit, since);
        let mut state = self.lock();
        loop {
            if let Some(event) = state.events[seen..].iter().find(|event| is_it(event)) {
                return Some(event.clone());
            }
            seen = state.events.len();
            state = self.wait(state, end)?;
        }
    }

    /// Waits until what is held is as wanted; `None` if that takes longer than `limit`.
    pub fn wait_held(&self, limit: Duration, wanted: impl Fn(&[Hold]) -> bool) -> Option<()> {
        let end = now() + limit;
        let mut state = self.lock();
        while !wanted(&state.holds()) {
            state = self.wait(state, end)?;
        }
        Some(())
    }

    /// Lets time pass.
    pub fn pause(&self, time: Duration) {
        let end = now() + time;
        let mut state = self.lock();
        while let Some(later) = self.wait(state, end) {
            state = later;
        }
    }

    /// The state after more has come in; `None` if the time is over.
    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        end: Duration,
    ) -> Option<MutexGuard<'a, State>> {
        let left = end.checked_sub(now()).filter(|left| !left.is_zero())?;
        let (state, _) =
            self.news.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        Some(state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn follow(&mut self, event: &Event) {
        let hold = || (event.who.clone(), event.attempt);
        match event.what {
            What::Acquired { .. } => {
                self.held.insert(hold(), event.lock.clone());
            }
            What::ReleaseInvoked | What::Lost => {
                self.held.remove(&hold());
            }
            What::Died => self.held.retain(|(who, _), _| *who != event.who),
            _ => {}
        }
    }

    fn holds(&self) -> Vec<Hold> {
        let hold = |((who, _), lock): (&(String, u64), &String)| Hold {
            who: who.clone(),
            lock: lock.clone(),
        };
        self.held.iter().map(hold).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(who: &str, attempt: u64, what: What) -> Event {
        Event { at: now(), who: who.into(), attempt, lock: "a".into(), what }
    }

    #[test]
    fn holds_are_followed_from_grant_to_end() {
        let record = Record::default();
        let whose = || {
            let mut whose: Vec<_> = record.holds().into_iter().map(|hold| hold.who).collect();
            whose.sort();
            whose
        };
        for (who, attempt) in [("ann", 1), ("ann", 2), ("bob", 1)] {
            record.add(event(who, attempt, What::Acquired { token: None }));
        }
        assert_eq!(whose(), ["ann", "ann", "bob"]);
        record.add(event("bob", 1, What::ReleaseInvoked));
        assert_eq!(whose(), ["ann", "ann"]);
        record.add(event("ann", 0, What::Died));
        assert!(whose().is_empty());
    }

    #[test]
    fn what_does_not_come_is_not_waited_for_longer() {
        let record = Record::default();
        let begin = record.mark();
        record.add(event("ann", 1, What::Lost));
        let came = |since, what| {
            record.wait_for(since, Duration::from_millis(1), |event| event.what == what).is_some()
        };
        assert!(came(begin, What::Lost));
        assert!(!came(begin, What::Died));
        assert!(!came(record.mark(), What::Lost));
    }
}
