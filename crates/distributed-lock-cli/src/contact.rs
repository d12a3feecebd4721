//! Whether a service that fails is worth another attempt, and when.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::Duration;

use distributed_lock::error::{LockError, NoAnswer};
use tokio::time::Instant;

/// How long an unbounded wait tries a service that has never answered: with a thousand processes that start
/// together, some get their first answer late.
const FIRST_ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// The first pause between two attempts; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest, while nothing is there.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The longest, while the service refuses or is slow: it may have no room or no time, because many ask.
const LONGEST_PAUSE_CROWDED: Duration = Duration::from_secs(30);

/// Whether the service has answered anything yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contact {
    None,
    Answered,
}

impl Contact {
    /// A refusal is an answer.
    pub(crate) fn note(&mut self, error: &LockError) {
        if !matches!(error, LockError::Connection(_)) {
            *self = Self::Answered;
        }
    }

    /// Whether there may be a service although this attempt failed: it has answered before, or it is slow.
    /// At an address where nothing listens there is none.
    pub(crate) fn may_be_there(self, error: &LockError, started: Instant) -> bool {
        self == Self::Answered || (is_slow(error) && started.elapsed() < FIRST_ANSWER_WITHIN)
    }
}

fn is_slow(error: &LockError) -> bool {
    let kind = error.find_source::<io::Error>().map(io::Error::kind);
    let ended = [io::ErrorKind::ConnectionReset, io::ErrorKind::UnexpectedEof];
    error.find_source::<NoAnswer>().is_some() || kind.is_some_and(|kind| ended.contains(&kind))
}

/// The pauses between attempts, each of a random length from half of it to all: many processes that were
/// refused together do not come back together.
#[derive(Debug)]
pub(crate) struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: FIRST_PAUSE }
    }
}

impl Pauses {
    pub(crate) fn after(&mut self, error: &LockError) -> Duration {
        let longest = match error {
            LockError::Connection(_) if !is_slow(error) => LONGEST_PAUSE,
            _ => LONGEST_PAUSE_CROWDED,
        };
        let pause = self.next.min(longest);
        self.next = (pause * 2).min(LONGEST_PAUSE_CROWDED);
        pause.mul_f64(0.5 + random_fraction() / 2.0)
    }
}

/// From 0 to 1.
fn random_fraction() -> f64 {
    let random = RandomState::new().hash_one(());
    f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_differ() {
        let refused = LockError::transient("no room");
        let mut pauses = Pauses::default();
        let taken: Vec<_> = (0..50).map(|_| pauses.after(&refused)).collect();
        assert!(taken[0] >= FIRST_PAUSE / 2 && taken[0] <= FIRST_PAUSE, "{taken:?}");
        let late = &taken[10..];
        let bounds = LONGEST_PAUSE_CROWDED / 2..=LONGEST_PAUSE_CROWDED;
        assert!(late.iter().all(|pause| bounds.contains(pause)), "{taken:?}");
        assert!(late.iter().any(|pause| *pause != late[0]), "{taken:?}");
        let absent = LockError::connection(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert!(pauses.after(&absent) <= LONGEST_PAUSE);
    }

    #[test]
    fn what_was_never_there_is_not_waited_for() {
        let absent = LockError::connection(io::Error::from(io::ErrorKind::ConnectionRefused));
        let slow = LockError::connection(NoAnswer(FIRST_PAUSE));
        let mut contact = Contact::None;
        contact.note(&absent);
        assert!(!contact.may_be_there(&absent, Instant::now()));
        assert!(contact.may_be_there(&slow, Instant::now()));
        let long_ago = Instant::now().checked_sub(FIRST_ANSWER_WITHIN).unwrap();
        assert!(!contact.may_be_there(&slow, long_ago));
        contact.note(&LockError::transient("no room"));
        assert!(contact.may_be_there(&absent, long_ago));
    }
}
