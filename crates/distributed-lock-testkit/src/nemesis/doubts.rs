//! Which grants a strike may have made worthless before they were told.

use std::collections::HashMap;
use std::time::Duration;

use super::strikes::{Kind, Strike};
use crate::history::{Event, What};

/// The history with every doubt about strikes that end holds decided, in the order of time.
///
/// Whoever has asked before such a strike and gets its answer after it may have been granted what
/// the strike took away. A checker takes that for granted, and ignores the grant. That would hide
/// those who were granted something that is no lock any more *after* the strike, and is true only
/// for so long as an answer may be on its way:
///
/// - who is answered within `epsilon` counts as having asked before the strike, also if that was
///   while it was under way;
/// - who is answered later, and was not stopped in between, counts as having asked after it.
#[must_use]
pub fn settled(mut events: Vec<Event>, strikes: &[Strike], epsilon: Duration) -> Vec<Event> {
    let mut waits = waits(&events);
    let stops: Vec<_> = strikes.iter().filter(|strike| strike.kind == Kind::Stopped).collect();
    let moment = Duration::from_nanos(1);
    for strike in strikes.iter().filter(|strike| strike.ends_holds) {
        let theirs = waits.get_mut(&strike.lock).into_iter().flatten();
        for wait in theirs.filter(|wait| wait.asked <= strike.done && wait.told >= strike.from) {
            let who = &events[wait.invoke].who;
            let stopped = |stop: &&Strike| {
                stop.who == *who && stop.from <= wait.told && stop.until >= strike.from
            };
            let certain = wait.told > strike.done + epsilon && !stops.iter().any(stopped);
            let before = strike.from.saturating_sub(moment).min(wait.asked);
            wait.asked = if certain { strike.done + moment } else { before };
        }
    }
    for wait in waits.into_values().flatten() {
        events[wait.invoke].at = wait.asked;
    }
    events.sort_by_key(|event| event.at);
    events
}

/// A wait for a lock that ended with a grant.
#[derive(Debug)]
struct Wait {
    /// The event with which it began.
    invoke: usize,
    asked: Duration,
    told: Duration,
}

/// By lock.
fn waits(events: &[Event]) -> HashMap<String, Vec<Wait>> {
    let mut asked: HashMap<(&str, u64), usize> = HashMap::new();
    let mut waits: HashMap<String, Vec<Wait>> = HashMap::new();
    for (index, event) in events.iter().enumerate() {
        let attempt = (event.who.as_str(), event.attempt);
        match event.what {
            What::Invoke { .. } => {
                asked.insert(attempt, index);
            }
            What::Acquired { .. } => {
                let Some(invoke) = asked.remove(&attempt) else { continue };
                let wait = Wait { invoke, asked: events[invoke].at, told: event.at };
                waits.entry(event.lock.clone()).or_default().push(wait);
            }
            _ => {}
        }
    }
    waits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When the wait of an attempt begins, that a removal from 100 to 110 ms meets.
    fn begins(asked: u64, told: u64, stopped: Option<u64>) -> Duration {
        let at = Duration::from_millis;
        let event = |at, what| Event { at, who: "ann".into(), attempt: 1, lock: "a".into(), what };
        let invoke = What::Invoke { mode: distributed_lock_core::Mode::Exclusive, deadline: None };
        let events =
            vec![event(at(asked), invoke), event(at(told), What::Acquired { token: None })];
        let strike = |kind, [from, done]: [u64; 2]| {
            let (who, lock, ends_holds) = ("ann".into(), "a".into(), kind == Kind::Removed);
            Strike { kind, who, lock, ends_holds, from: at(from), done: at(done), until: at(done) }
        };
        let mut strikes = vec![strike(Kind::Removed, [100, 110])];
        strikes.extend(stopped.map(|from| strike(Kind::Stopped, [from, from + 1])));
        settled(events, &strikes, at(20))[0].at
    }

    #[test]
    fn only_an_answer_that_was_on_its_way_is_in_doubt() {
        let before = Duration::from_millis(100) - Duration::from_nanos(1);
        let after = Duration::from_millis(110) + Duration::from_nanos(1);
        assert_eq!(begins(50, 60, None), Duration::from_millis(50), "told before");
        assert_eq!(begins(120, 125, None), Duration::from_millis(120), "asked after");
        assert_eq!(begins(105, 115, None), before, "asked while it was under way");
        assert_eq!(begins(50, 125, None), Duration::from_millis(50), "told soon after");
        assert_eq!(begins(50, 140, None), after, "told long after");
        assert_eq!(begins(50, 140, Some(115)), Duration::from_millis(50), "stopped in between");
    }
}
