//! A held lock, as extension and release need it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use distributed_lock_core::clock::Moment;
use distributed_lock_core::unanswered::Unanswered;
use distributed_lock_core::{AttemptToken, Mode};

use crate::key::RedisKey;

/// A held lock.
#[derive(Debug)]
pub(crate) struct RedisGrant {
    pub(crate) key: RedisKey,
    pub(crate) mode: Mode,
    pub(crate) attempt: AttemptToken,
    /// Requests of its attempt that may still arrive; they must not take the lock after its release.
    unanswered: Unanswered<u64>,
    /// Until when the lease lasts, by the provider's clock.
    deadline: AtomicU64,
    /// A release was sent, and may have taken effect.
    is_released: AtomicBool,
}

impl RedisGrant {
    pub(crate) fn new(
        (key, mode): (RedisKey, Mode),
        attempt: AttemptToken,
        unanswered: Unanswered<u64>,
        deadline: Moment,
    ) -> Self {
        let deadline = AtomicU64::new(deadline.as_nanos());
        Self { key, mode, attempt, unanswered, deadline, is_released: AtomicBool::new(false) }
    }

    /// Whether a request of its attempt may arrive after its release.
    pub(crate) fn has_unanswered(&self) -> bool {
        !self.unanswered.is_empty()
    }

    pub(crate) fn deadline(&self) -> Moment {
        Moment::from_nanos(self.deadline.load(Ordering::Relaxed))
    }

    pub(crate) fn extend_to(&self, deadline: Moment) {
        self.deadline.fetch_max(deadline.as_nanos(), Ordering::Relaxed);
    }

    /// The server says that it is still held: no release has taken effect.
    pub(crate) fn release_did_nothing(&self) {
        self.is_released.store(false, Ordering::Relaxed);
    }

    /// A release leaves now; says whether one has left before.
    pub(crate) fn release_leaves(&self) -> bool {
        self.is_released.swap(true, Ordering::Relaxed)
    }
}
