//! The history as attempts: what each asked for, was told and held, and what struck it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use distributed_lock_core::Mode;

use super::event::{Event, What};
use super::rules::Rules;

/// A place in the history, ordered as it was logged: events of one time keep their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    rank: usize,
    pub(super) at: Duration,
}

/// What excludes each other: the mutex and reader-writer lock of a name, or its semaphore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Resource<'a> {
    pub(super) lock: &'a str,
    pub(super) semaphore: bool,
}

/// How an acquire ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Acquired { token: Option<u64> },
    Refused,
    Failed,
}

/// One acquire, hold and release of a worker.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    pub(super) who: &'a str,
    pub(super) number: u64,
    pub(super) resource: Resource<'a>,
    pub(super) mode: Mode,
    pub(super) deadline: Option<Duration>,
    pub(super) invoked: Point,
    pub(super) answered: Option<(Point, Answer)>,
    /// From when on the holder or the checker relies on nothing.
    pub(super) hold_ends: Option<Point>,
    pub(super) release_invoked: Option<Point>,
    pub(super) release_answered: Option<Point>,
    pub(super) lost: Option<Point>,
    pub(super) died: Option<Point>,
    /// The first fault that may have ended it while it was held.
    pub(super) struck: Option<Point>,
    /// A fault that may have ended it between its grant and the news of it: the grant is worth
    /// nothing.
    doubtful: Option<Doubt>,
    /// Some fault could explain a loss.
    pub(super) explained: bool,
    /// Faults that strike its worker by name: from the first on it may be late with anything.
    pub(super) stalled: Vec<Point>,
}

#[derive(Debug, Clone, Copy)]
struct Doubt {
    at: Duration,
    by_name: bool,
}

impl Attempt<'_> {
    /// The worker and its number.
    pub(super) fn name(&self) -> String {
        format!("{}#{}", self.who, self.number)
    }

    /// When it began to hold, if that counts.
    pub(super) fn hold_starts(&self, rules: &Rules) -> Option<Point> {
        let (point, Answer::Acquired { .. }) = self.answered? else { return None };
        let limit = rules.operation_timeout + rules.epsilon;
        let worthless = |doubt: Doubt| doubt.by_name || doubt.at + limit >= point.at;
        (!self.doubtful.is_some_and(worthless)).then_some(point)
    }

    pub(super) fn token(&self) -> Option<u64> {
        match self.answered?.1 {
            Answer::Acquired { token } => token,
            Answer::Refused | Answer::Failed => None,
        }
    }

    /// When its wait was over, however.
    pub(super) fn wait_ends(&self) -> Option<Point> {
        self.answered.map(|(point, _)| point).or(self.died)
    }
}

/// A write to a resource that compares tokens.
#[derive(Debug)]
pub(super) struct Write<'a> {
    pub(super) at: Point,
    pub(super) resource: Resource<'a>,
    pub(super) token: u64,
    pub(super) accepted: bool,
    /// Whose it is, among the attempts.
    pub(super) attempt: Option<usize>,
}

/// A whole history.
#[derive(Debug)]
pub(super) struct History<'a> {
    /// In the order of their invocation.
    pub(super) attempts: Vec<Attempt<'a>>,
    pub(super) writes: Vec<Write<'a>>,
    /// Faults that strike everybody, of any kind.
    pub(super) general_faults: Vec<(Point, &'a str)>,
    pub(super) quiet: Option<Point>,
    pub(super) end: Duration,
}

impl<'a> History<'a> {
    /// Reads events in any order.
    pub(super) fn read(events: &'a [Event]) -> Self {
        let invokes = |event: &&Event| matches!(event.what, What::Invoke { .. });
        let workers = events.iter().filter(invokes).map(|event| event.who.as_str()).collect();
        let mut sorted: Vec<&Event> = events.iter().collect();
        sorted.sort_by_key(|event| event.at);
        let history = Self {
            attempts: Vec::new(),
            writes: Vec::new(),
            general_faults: Vec::new(),
            quiet: None,
            end: sorted.last().map_or(Duration::ZERO, |event| event.at),
        };
        let mut reader = Reader {
            history,
            workers,
            index: HashMap::new(),
            open: BTreeSet::new(),
            active: Vec::new(),
        };
        for (rank, event) in sorted.into_iter().enumerate() {
            reader.take(Point { rank, at: event.at }, event);
        }
        reader.history
    }
}

struct Reader<'a> {
    history: History<'a>,
    workers: BTreeSet<&'a str>,
    index: HashMap<(&'a str, u64), usize>,
    /// Attempts that are neither refused nor released, failed or dead.
    open: BTreeSet<usize>,
    /// Faults since the last quiet.
    active: Vec<&'a Event>,
}

impl<'a> Reader<'a> {
    fn take(&mut self, now: Point, event: &'a Event) {
        match &event.what {
            What::Invoke { mode, deadline } => self.invoke(now, event, *mode, *deadline),
            What::Acquired { token } => {
                self.answer(now, event, Answer::Acquired { token: *token });
            }
            What::Refused => self.answer(now, event, Answer::Refused),
            What::Failed { .. } => self.answer(now, event, Answer::Failed),
            What::Wrote { token, accepted } => {
                let attempt = self.index.get(&(event.who.as_str(), event.attempt)).copied();
                let asked = attempt.map(|index| self.history.attempts[index].resource);
                let mutex = Resource { lock: &event.lock, semaphore: false };
                self.history.writes.push(Write {
                    at: now,
                    resource: asked.unwrap_or(mutex),
                    token: *token,
                    accepted: *accepted,
                    attempt,
                });
            }
            What::ReleaseInvoked => {
                let attempt = self.attempt(event);
                attempt.release_invoked = Some(now);
                attempt.hold_ends.get_or_insert(now);
            }
            What::Released | What::ReleaseFailed { .. } => {
                self.attempt(event).release_answered = Some(now);
                self.close(event);
            }
            What::Lost => {
                let attempt = self.attempt(event);
                attempt.lost.get_or_insert(now);
                attempt.hold_ends.get_or_insert(now);
                if attempt.release_invoked.is_some() {
                    attempt.release_answered.get_or_insert(now);
                }
            }
            What::Died => {
                for index in self.struck_by(event) {
                    let attempt = &mut self.history.attempts[index];
                    attempt.died = Some(now);
                    attempt.hold_ends.get_or_insert(now);
                    self.open.remove(&index);
                }
            }
            What::FaultEndsHold { .. } | What::Fault { .. } => self.strike(now, event),
        }
    }

    fn invoke(&mut self, now: Point, event: &'a Event, mode: Mode, deadline: Option<Duration>) {
        let semaphore = matches!(mode, Mode::Permit { .. });
        let explained = self.active.iter().any(|fault| self.strikes(fault, event));
        let index = self.history.attempts.len();
        let before = self.index.insert((&event.who, event.attempt), index);
        assert!(before.is_none(), "not a history: {event:?} uses the number of another attempt");
        self.open.insert(index);
        self.history.attempts.push(Attempt {
            who: &event.who,
            number: event.attempt,
            resource: Resource { lock: &event.lock, semaphore },
            mode,
            deadline,
            invoked: now,
            answered: None,
            hold_ends: None,
            release_invoked: None,
            release_answered: None,
            lost: None,
            died: None,
            struck: None,
            doubtful: None,
            explained,
            stalled: Vec::new(),
        });
    }

    fn answer(&mut self, now: Point, event: &'a Event, answer: Answer) {
        self.attempt(event).answered = Some((now, answer));
        if !matches!(answer, Answer::Acquired { .. }) {
            self.close(event);
        }
    }

    fn strike(&mut self, now: Point, event: &'a Event) {
        if event.what.is_quiet() {
            self.history.quiet = Some(now);
            self.active.clear();
            return;
        }
        let by_name = self.workers.contains(event.who.as_str());
        let ends_hold = matches!(event.what, What::FaultEndsHold { .. });
        for index in self.struck_by(event) {
            let attempt = &mut self.history.attempts[index];
            attempt.explained |= attempt.lost.is_none();
            if !ends_hold {
                if by_name {
                    attempt.stalled.push(now);
                }
            } else if attempt.answered.is_none() {
                let by_name = by_name || attempt.doubtful.is_some_and(|doubt| doubt.by_name);
                attempt.doubtful = Some(Doubt { at: now.at, by_name });
            } else if attempt.hold_ends.is_none() {
                attempt.hold_ends = Some(now);
                attempt.struck = Some(now);
            }
        }
        if !by_name {
            self.history.general_faults.push((now, &event.lock));
        }
        if !ends_hold {
            self.active.push(event);
        }
    }

    fn struck_by(&self, fault: &Event) -> Vec<usize> {
        let struck = |index: &usize| {
            let attempt = &self.history.attempts[*index];
            self.concerns(fault, attempt.who, attempt.resource.lock)
        };
        self.open.iter().copied().filter(struck).collect()
    }

    fn strikes(&self, fault: &Event, event: &Event) -> bool {
        self.concerns(fault, &event.who, &event.lock)
    }

    fn concerns(&self, fault: &Event, who: &str, lock: &str) -> bool {
        let everybody = !self.workers.contains(fault.who.as_str());
        let everywhere = fault.lock.is_empty();
        match fault.what {
            What::Died => fault.who == who,
            _ => (everybody || fault.who == who) && (everywhere || fault.lock == lock),
        }
    }

    fn attempt(&mut self, event: &Event) -> &mut Attempt<'a> {
        match self.index.get(&(event.who.as_str(), event.attempt)) {
            Some(&index) => &mut self.history.attempts[index],
            None => panic!("not a history: {event:?} without its Invoke"),
        }
    }

    fn close(&mut self, event: &Event) {
        if let Some(index) = self.index.get(&(event.who.as_str(), event.attempt)) {
            let index = *index;
            self.open.remove(&index);
        }
    }
}
