//! Where directed scenarios are played: commands to workers, and what must be heard of them.

use std::collections::BTreeSet;
use std::time::Duration;

use distributed_lock_core::Mode;

use crate::history::{Event, What};
use crate::nemesis::{Crew, Kind, Mark, Noise, Strike};
use crate::worker::{Command, Primitive};

/// How long something may take that has no bound of its own.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Workers and what their locks stand on (`B`: their files, their server), and what was done to them.
#[derive(Debug)]
pub struct Stage<'a, B> {
    /// The workers.
    pub crew: &'a mut Crew,
    /// What their locks stand on.
    pub backend: &'a B,
    /// What was done to them so far.
    pub strikes: Vec<Strike>,
    /// How many attempts were made by commands.
    pub attempts: u64,
    noise: &'a Noise,
}

/// One worker's attempt.
#[derive(Debug, Clone)]
pub struct Try {
    /// The worker's number.
    pub worker: usize,
    who: String,
    attempt: u64,
    since: Mark,
}

/// How a scenario ends: well, or with what was not as promised.
pub type Played<T = ()> = Result<T, String>;

impl<'a, B> Stage<'a, B> {
    /// `attempts` were made by commands to the same workers before.
    #[must_use]
    pub fn new(crew: &'a mut Crew, backend: &'a B, noise: &'a Noise, attempts: u64) -> Self {
        Self { crew, backend, strikes: Vec::new(), attempts, noise }
    }

    /// Begins an acquire.
    pub fn ask(
        &mut self,
        worker: usize,
        primitive: Primitive,
        timeout: Duration,
        lock: &str,
    ) -> Try {
        self.attempts += 1;
        let (attempt, lock) = (self.attempts, lock.to_owned());
        let (who, since) = (self.crew.who(worker).to_owned(), self.crew.record().mark());
        self.crew.tell(worker, &Command::Acquire { attempt, primitive, timeout, lock });
        Try { worker, who, attempt, since }
    }

    /// Acquires what must be free.
    ///
    /// # Errors
    /// If it is not.
    pub fn take(&mut self, worker: usize, primitive: Primitive, lock: &str) -> Played<Try> {
        let asked = self.ask(worker, primitive, PATIENCE, lock);
        self.hears(&asked, "granted the lock", acquired)?;
        Ok(asked)
    }

    /// Begins an acquire that must wait; it has begun when this returns.
    ///
    /// # Errors
    /// If it has not.
    pub fn wait(&mut self, worker: usize, primitive: Primitive, lock: &str) -> Played<Try> {
        let asked = self.ask(worker, primitive, PATIENCE, lock);
        self.hears(&asked, "asking", |what| matches!(what, What::Invoke { .. }))?;
        Ok(asked)
    }

    /// Writes to the lock's resource with the token of an attempt.
    pub fn write(&mut self, by: &Try) {
        self.crew.tell(by.worker, &Command::Write { attempt: by.attempt });
    }

    /// Releases what an attempt was granted.
    pub fn release(&mut self, by: &Try) {
        self.crew.tell(by.worker, &Command::Release { attempt: by.attempt });
    }

    /// Releases it, and waits until that is done.
    ///
    /// # Errors
    /// If it is not.
    pub fn give_back(&mut self, by: &Try) -> Played {
        self.release(by);
        self.hears(by, "released", left).map(|_| ())
    }

    /// Stops the worker of an attempt.
    pub fn stop(&mut self, of: &Try) {
        let from = self.crew.stop(of.worker);
        let (kind, who, lock) = (Kind::Stopped, of.who.clone(), String::new());
        let until = Duration::MAX;
        let strike = Strike { kind, who, lock, ends_holds: false, from, done: from, until };
        self.strikes.push(strike);
    }

    /// Lets it go on; when.
    pub fn resume(&mut self, of: &Try) -> Duration {
        let until = self.crew.resume(of.worker);
        let open = |strike: &&mut Strike| strike.who == of.who && strike.until == Duration::MAX;
        if let Some(strike) = self.strikes.iter_mut().find(open) {
            strike.until = until;
        }
        until
    }

    /// Lets everybody go on who was stopped and is still.
    pub fn resume_all(&mut self) {
        for strike in self.strikes.iter_mut().filter(|strike| strike.until == Duration::MAX) {
            if let Some(number) = self.crew.number_of(&strike.who) {
                strike.until = self.crew.resume(number);
            }
        }
    }

    /// After all faults: each lock can be acquired, and each permit at once with the others. What
    /// cannot.
    pub fn everything_is_free(&mut self) -> Vec<String> {
        let mut failures = Vec::new();
        for (lock, permits) in self.locks_in_use() {
            let (primitive, times) = match permits {
                Some(max) => (Primitive::Permit(max), max),
                None => (Primitive::Mutex, 1),
            };
            let taken: Vec<_> = (0..times).map(|_| self.take(0, primitive, &lock)).collect();
            for taken in taken {
                let left = taken.and_then(|taken| self.give_back(&taken));
                failures
                    .extend(left.err().map(|failure| format!("after quiet, {lock}: {failure}")));
            }
        }
        failures
    }

    /// Every lock and semaphore that was asked for, and how many permits there are of it.
    fn locks_in_use(&self) -> BTreeSet<(String, Option<u32>)> {
        let events = self.crew.record().events();
        let used = events.into_iter().filter_map(|event| match event.what {
            What::Invoke { mode: Mode::Permit { max }, .. } => Some((event.lock, Some(max))),
            What::Invoke { .. } => Some((event.lock, None)),
            _ => None,
        });
        used.filter(|(lock, _)| !lock.starts_with(super::ASKED)).collect()
    }

    /// What an attempt must say at last.
    ///
    /// # Errors
    /// If it does not.
    pub fn hears(&self, by: &Try, what: &str, is_it: impl Fn(&What) -> bool) -> Played<Event> {
        let Try { who, attempt, since, .. } = by;
        let theirs = |event: &Event| event.who == *who && event.attempt == *attempt;
        let heard = self
            .crew
            .record()
            .wait_for(*since, PATIENCE, |event| theirs(event) && is_it(&event.what));
        heard.ok_or_else(|| format!("{who}, attempt {attempt}, was not {what}"))
    }

    /// What an attempt must say by a time, on top of which the machine's noise is allowed.
    ///
    /// # Errors
    /// If it does not, or later.
    pub fn hears_by(
        &self,
        by: &Try,
        what: &str,
        limit: Duration,
        is_it: impl Fn(&What) -> bool,
    ) -> Played<Event> {
        let event = self.hears(by, what, is_it)?;
        let limit = limit + super::LEAST_EPSILON + 2 * self.noise.worst();
        if event.at <= limit {
            return Ok(event);
        }
        let late = event.at - limit;
        Err(format!("{} was {what} {late:?} later than promised and explained by noise", by.who))
    }

    /// That an attempt has said nothing like it so far.
    ///
    /// # Errors
    /// If it has.
    pub fn has_not_heard(&self, by: &Try, what: &str, is_it: impl Fn(&What) -> bool) -> Played {
        let theirs = |event: &Event| event.who == by.who && event.attempt == by.attempt;
        let record = self.crew.record();
        match record.wait_for(by.since, Duration::ZERO, |event| theirs(event) && is_it(&event.what))
        {
            None => Ok(()),
            Some(event) => Err(format!("{} was {what}: {event:?}", by.who)),
        }
    }
}

/// A grant.
#[must_use]
pub fn acquired(what: &What) -> bool {
    matches!(what, What::Acquired { .. })
}

/// A write that was accepted, or refused by its token.
pub fn wrote(expected: bool) -> impl Fn(&What) -> bool {
    move |what| matches!(what, What::Wrote { accepted, .. } if *accepted == expected)
}

/// Any answer to a release.
#[must_use]
pub fn left(what: &What) -> bool {
    matches!(what, What::Released | What::ReleaseFailed { .. })
}
