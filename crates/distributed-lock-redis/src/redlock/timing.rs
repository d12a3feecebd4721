//! How long a lock that was won on a majority may be relied on.

use std::time::Duration;

use distributed_lock_core::clock::Moment;
use distributed_lock_core::driver::Lease;

/// The times that every machine works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timing {
    /// For how long each server keeps a lock that is not extended.
    pub expiry: Duration,
    /// By how much the servers' clocks and ours may have run apart meanwhile.
    pub drift: Duration,
    /// What must be left of a lease when it is granted.
    pub min_validity: Duration,
    /// How long one server may take to answer before the others decide without it.
    pub patience: Duration,
}

impl Timing {
    /// The times for leases of `expiry`. The drift is that of the original implementations,
    /// [redlock-rb] and those that follow it: one hundredth of the lease, and 2 ms because Redis
    /// counts expiries in milliseconds.
    ///
    /// [redlock-rb]: https://github.com/antirez/redlock-rb/blob/master/redlock.rb
    #[must_use]
    pub fn new(expiry: Duration, min_validity: Duration, patience: Duration) -> Self {
        let drift = expiry / 100 + Duration::from_millis(2);
        Self { expiry, drift, min_validity, patience }
    }

    /// The lease of a lock that was asked for from `sent` on: it counts from before the first
    /// request, and is shorter than the servers' by the drift.
    #[must_use]
    pub fn lease(self, sent: Moment) -> Lease {
        Lease::from_request(sent, self.validity())
    }

    /// For how long a lock may be relied on from its first request on.
    #[must_use]
    pub fn validity(self) -> Duration {
        self.expiry.saturating_sub(self.drift)
    }

    /// Whether enough is left of a lease that was asked for at `sent`.
    #[must_use]
    pub fn is_enough(self, sent: Moment, now: Moment) -> bool {
        let left = self.lease(sent).deadline().since(now);
        !left.is_zero() && left >= self.min_validity
    }

    /// When everything that was asked for until `sent` has run out at the servers, if it arrived.
    #[must_use]
    pub fn all_over(self, sent: Moment) -> Moment {
        sent.after(self.expiry + self.drift)
    }
}
