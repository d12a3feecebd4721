//! The options of Redis locks, checked once.

use std::time::Duration;

use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_core::lease::LeaseMachine;
use distributed_lock_core::unanswered::LATEST_ARRIVAL;
use distributed_lock_core::{AttemptToken, Mode};

/// What the builder collects.
#[derive(Debug, Clone)]
pub(crate) struct Wishes {
    pub(crate) expiry: Duration,
    pub(crate) extension_cadence: Option<Duration>,
    pub(crate) min_validity: Option<Duration>,
    pub(crate) key_prefix: String,
    pub(crate) label: Option<String>,
    pub(crate) restart_guard: Option<Duration>,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            expiry: Duration::from_secs(30),
            extension_cadence: None,
            min_validity: None,
            key_prefix: "distributed-lock:".into(),
            label: None,
            restart_guard: None,
        }
    }
}

/// What the driver works with.
#[derive(Debug, Clone)]
pub(crate) struct RedisOptions {
    pub(crate) expiry: Duration,
    /// For how long a holder relies on it: a little less, for a timer that rings late and clocks that
    /// do not run alike, so that it is told of the loss before the next can have the lock.
    pub(crate) validity: Duration,
    pub(crate) extension_cadence: Duration,
    pub(crate) min_validity: Duration,
    pub(crate) key_prefix: String,
    pub(crate) label: Option<String>,
    /// For how long a restarted server is not counted, if there are several.
    pub(crate) restart_guard: Duration,
    /// As the scripts take them.
    pub(crate) expiry_ms: String,
    pub(crate) period_ms: String,
}

/// Below this the time on the way to the server and back is no longer small beside the lease.
const SHORTEST_EXPIRY: Duration = Duration::from_millis(100);

/// Above this its milliseconds would not be exact in a script.
const LONGEST_EXPIRY: Duration = Duration::from_secs(365 * 24 * 3600);

/// How late a timer may ring.
const LATENESS: Duration = Duration::from_millis(2);

const MILLISECOND: Duration = Duration::from_millis(1);

const LONGEST_LABEL: usize = 256;

impl Wishes {
    pub(crate) fn check(self, operation_timeout: Duration) -> LockResult<RedisOptions> {
        let Self { expiry, extension_cadence, min_validity, key_prefix, label, restart_guard } =
            self;
        if !(SHORTEST_EXPIRY..=LONGEST_EXPIRY).contains(&expiry) {
            return Err(config(format!("expiry {expiry:?}: it must be between 100 ms and a year")));
        }
        // Whole milliseconds, so that the server's lease is not shorter than ours.
        let expiry = Duration::from_millis(u64::try_from(expiry.as_millis()).unwrap_or(u64::MAX));
        let validity = expiry - expiry / 100 - LATENESS;
        let cadence = extension_cadence.unwrap_or(expiry / 3);
        if !LeaseMachine::leaves_room(validity, cadence, operation_timeout) {
            return Err(config(format!(
                "extension_cadence {cadence:?} with expiry {expiry:?}: an extension that fails could not \
                 be repeated before the lease ends; above zero and up to {:?} works",
                validity / 2 - MILLISECOND
            )));
        }
        let min_validity = min_validity.unwrap_or(expiry / 10);
        if min_validity >= validity {
            return Err(config(format!(
                "min_validity {min_validity:?} with expiry {expiry:?}: no lock could be granted; less than \
                 {validity:?} works"
            )));
        }
        if label.as_ref().is_some_and(|label| label.len() > LONGEST_LABEL) {
            return Err(config(format!("owner_label: at most {LONGEST_LABEL} bytes")));
        }
        let label = label.filter(|label| !label.is_empty());
        Ok(RedisOptions {
            expiry,
            validity,
            extension_cadence: cadence,
            min_validity,
            key_prefix,
            label,
            restart_guard: restart_guard.unwrap_or(expiry),
            expiry_ms: expiry.as_millis().to_string(),
            period_ms: fallback_period(expiry).as_millis().to_string(),
        })
    }
}

impl RedisOptions {
    /// What a server compares before it extends or ends a hold.
    pub(crate) fn owner(&self, mode: Mode, token: AttemptToken) -> String {
        let label = self.label.as_deref().map(|label| format!(" {label}"));
        let label = label.unwrap_or_default();
        match mode {
            Mode::Exclusive => format!("{token}{label}"),
            Mode::Shared | Mode::Permit { .. } => format!("{token} {}{label}", self.expiry_ms),
        }
    }

    /// For how many ms a tombstone lasts, as the scripts take it; 0 for none. A request that arrives
    /// late finds it.
    pub(crate) fn tombstone(&self, is_needed: bool) -> String {
        match is_needed {
            true => LATEST_ARRIVAL.max(self.expiry).as_millis().to_string(),
            false => "0".to_owned(),
        }
    }

    pub(crate) fn fallback_period(&self) -> Duration {
        fallback_period(self.expiry)
    }
}

fn fallback_period(expiry: Duration) -> Duration {
    (expiry / 3).clamp(Duration::from_millis(50), Duration::from_secs(1))
}

fn config(text: String) -> LockError {
    LockError::Config(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn checked(change: impl FnOnce(&mut Wishes)) -> LockResult<RedisOptions> {
        let mut wishes = Wishes::default();
        change(&mut wishes);
        wishes.check(2000 * MS)
    }

    #[test]
    fn any_expiry_from_100_ms_works_with_the_rest_untouched() {
        for expiry in [100, 101, 200, 1000, 27_000, 30_000, 3_600_000].map(|ms| ms * MS) {
            let options = checked(|wishes| wishes.expiry = expiry).unwrap();
            assert!(options.extension_cadence < expiry && options.min_validity < expiry);
            assert!((50 * MS..=1000 * MS).contains(&options.fallback_period()));
        }
    }

    #[test]
    fn what_cannot_work_is_refused_and_explained() {
        let refusals = [
            (checked(|wishes| wishes.expiry = 99 * MS), "100 ms"),
            (checked(|wishes| wishes.expiry = Duration::MAX), "a year"),
            (checked(|wishes| wishes.extension_cadence = Some(Duration::ZERO)), "above zero"),
            (checked(|wishes| wishes.extension_cadence = Some(30_000 * MS)), "extension_cadence"),
            (checked(|wishes| wishes.extension_cadence = Some(20_000 * MS)), "up to 14.8"),
            (checked(|wishes| wishes.min_validity = Some(29_700 * MS)), "min_validity"),
            (checked(|wishes| wishes.label = Some("x".repeat(257))), "256 bytes"),
        ];
        for (refusal, reason) in refusals {
            assert!(
                matches!(&refusal, Err(LockError::Config(text)) if text.contains(reason)),
                "{refusal:?}"
            );
        }
    }
}
