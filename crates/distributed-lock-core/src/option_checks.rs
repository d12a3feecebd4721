//! Options that cannot work together, whatever the backend.

use std::time::Duration;

use crate::engine::Options;
use crate::error::{LockError, LockResult};

/// A bound below this fails requests that are on their way already.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);

impl Options {
    /// Refuses options that cannot work or that nothing reads; for builders. `lease` is the length of
    /// the backend's leases, if it has any.
    ///
    /// # Errors
    /// [`LockError::Config`], which names the option.
    pub fn check(&self, lease: Option<Duration>) -> LockResult<()> {
        if self.operation_timeout < SHORTEST_TIMEOUT {
            return config(format!(
                "operation_timeout {:?}: it must be at least 1 ms",
                self.operation_timeout
            ));
        }
        if lease.is_some_and(|lease| lease.is_zero()) {
            return config("a lease of no length would be lost when it is granted");
        }
        if lease.is_none() && (self.max_hold.is_some() || !self.auto_extend) {
            return config("max_hold and auto_extend limit leases, and these locks have no lease");
        }
        if self.max_hold.is_some_and(|most| most.is_zero()) {
            return config("max_hold 0s: every lock would be lost when it is granted");
        }
        Ok(())
    }
}

fn config<T>(reason: impl Into<String>) -> LockResult<T> {
    Err(LockError::Config(reason.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn row_62_options_that_cannot_work_are_named() {
        let limited = |most| Options::default().max_hold(most);
        let refusals = [
            (Options::default().operation_timeout(Duration::ZERO), None, "operation_timeout"),
            (Options::default(), Some(Duration::ZERO), "lease"),
            (limited(SECOND), None, "max_hold"),
            (Options::default().auto_extend(false), None, "auto_extend"),
            (limited(Duration::ZERO), Some(SECOND), "max_hold"),
        ];
        for (options, lease, named) in refusals {
            let refusal = options.check(lease);
            assert!(
                matches!(&refusal, Err(LockError::Config(reason)) if reason.contains(named)),
                "{named}: {refusal:?}"
            );
        }
        limited(SECOND).auto_extend(false).check(Some(SECOND)).unwrap();
        Options::default().operation_timeout(Duration::MAX).check(None).unwrap();
    }
}
