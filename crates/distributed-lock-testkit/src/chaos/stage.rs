//! Where directed scenarios are played: commands to workers, and what must be heard of them.

use std::collections::BTreeSet;
use std::time::Duration;

use distributed_lock_core::Mode;

use crate::history::{Event, What};
use crate::nemesis::files::LockFiles;
use crate::nemesis::{Crew, Kind, Mark, Noise, Strike, remove};
use crate::worker::{Command, Primitive};

/// How long something may take that has no bound of its own.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Workers and lock files, and what was done to them.
pub(super) struct Stage<'a> {
    pub(super) crew: &'a mut Crew,
    pub(super) strikes: Vec<Strike>,
    files: &'a LockFiles,
    noise: &'a Noise,
    pub(super) attempts: u64,
}

/// One worker's attempt.
#[derive(Debug, Clone)]
pub(super) struct Try {
    pub(super) worker: usize,
    who: String,
    attempt: u64,
    since: Mark,
}

/// How a scenario ends: well, or with what was not as promised.
pub(super) type Played<T = ()> = Result<T, String>;

impl<'a> Stage<'a> {
    /// `attempts` were made by commands to the same workers before.
    pub(super) fn new(
        crew: &'a mut Crew,
        files: &'a LockFiles,
        noise: &'a Noise,
        attempts: u64,
    ) -> Self {
        Self { crew, strikes: Vec::new(), files, noise, attempts }
    }

    /// Begins an acquire.
    pub(super) fn ask(
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
    pub(super) fn take(&mut self, worker: usize, primitive: Primitive, lock: &str) -> Played<Try> {
        let asked = self.ask(worker, primitive, PATIENCE, lock);
        self.hears(&asked, "granted the lock", acquired)?;
        Ok(asked)
    }

    /// Begins an acquire that must wait; it has begun when this returns.
    pub(super) fn wait(&mut self, worker: usize, primitive: Primitive, lock: &str) -> Played<Try> {
        let asked = self.ask(worker, primitive, PATIENCE, lock);
        self.hears(&asked, "asking", |what| matches!(what, What::Invoke { .. }))?;
        Ok(asked)
    }

    pub(super) fn write(&mut self, by: &Try) {
        self.crew.tell(by.worker, &Command::Write { attempt: by.attempt });
    }

    pub(super) fn release(&mut self, by: &Try) {
        self.crew.tell(by.worker, &Command::Release { attempt: by.attempt });
    }

    /// Stops the worker of an attempt.
    pub(super) fn stop(&mut self, of: &Try) {
        let from = self.crew.stop(of.worker);
        let (kind, who, lock) = (Kind::Stopped, of.who.clone(), String::new());
        let until = Duration::MAX;
        let strike = Strike { kind, who, lock, ends_holds: false, from, done: from, until };
        self.strikes.push(strike);
    }

    /// Lets it go on; when.
    pub(super) fn resume(&mut self, of: &Try) -> Duration {
        let until = self.crew.resume(of.worker);
        let open = |strike: &&mut Strike| strike.who == of.who && strike.until == Duration::MAX;
        if let Some(strike) = self.strikes.iter_mut().find(open) {
            strike.until = until;
        }
        until
    }

    /// Removes the files that holders of the lock have locked.
    pub(super) fn remove(&mut self, lock: &str) -> Strike {
        let strike = remove(self.files, self.crew, lock.to_owned());
        self.strikes.push(strike.clone());
        strike
    }

    /// Every lock and semaphore that was asked for, and how many permits there are of it.
    pub(super) fn locks_in_use(&self) -> BTreeSet<(String, Option<u32>)> {
        let events = self.crew.record().events();
        let used = events.into_iter().filter_map(|event| match event.what {
            What::Invoke { mode: Mode::Permit { max }, .. } => Some((event.lock, Some(max))),
            What::Invoke { .. } => Some((event.lock, None)),
            _ => None,
        });
        used.filter(|(lock, _)| !lock.starts_with(super::ASKED)).collect()
    }

    /// What an attempt must say at last.
    pub(super) fn hears(
        &self,
        by: &Try,
        what: &str,
        is_it: impl Fn(&What) -> bool,
    ) -> Played<Event> {
        let Try { who, attempt, since, .. } = by;
        let theirs = |event: &Event| event.who == *who && event.attempt == *attempt;
        let heard = self
            .crew
            .record()
            .wait_for(*since, PATIENCE, |event| theirs(event) && is_it(&event.what));
        heard.ok_or_else(|| format!("{who}, attempt {attempt}, was not {what}"))
    }

    /// What an attempt must say by a time, on top of which the machine's noise is allowed.
    pub(super) fn hears_by(
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
    pub(super) fn has_not_heard(
        &self,
        by: &Try,
        what: &str,
        is_it: impl Fn(&What) -> bool,
    ) -> Played {
        let theirs = |event: &Event| event.who == by.who && event.attempt == by.attempt;
        let record = self.crew.record();
        match record.wait_for(by.since, Duration::ZERO, |event| theirs(event) && is_it(&event.what))
        {
            None => Ok(()),
            Some(event) => Err(format!("{} was {what}: {event:?}", by.who)),
        }
    }
}

pub(super) fn acquired(what: &What) -> bool {
    matches!(what, What::Acquired { .. })
}

pub(super) fn wrote(expected: bool) -> impl Fn(&What) -> bool {
    move |what| matches!(what, What::Wrote { accepted, .. } if *accepted == expected)
}

/// Any answer to a release.
pub(super) fn left(what: &What) -> bool {
    matches!(what, What::Released | What::ReleaseFailed { .. })
}
