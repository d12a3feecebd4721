//! Waiting times: deadlines that cannot overflow.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// When a wait ends: at an instant, or never.
///
/// `None` and every duration too long for the clock mean never; zero means now.
///
/// ```
/// use distributed_lock_core::timeout::Deadline;
/// use std::time::Duration;
///
/// assert!(Deadline::after(Some(Duration::ZERO)).has_passed());
/// assert!(!Deadline::after(Some(Duration::MAX)).has_passed());
/// assert_eq!(Deadline::after(None), Deadline::NEVER);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// A wait without an end.
    pub const NEVER: Self = Self(None);

    /// The deadline `timeout` from now.
    #[must_use]
    pub fn after(timeout: Option<Duration>) -> Self {
        Self(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// Whether it is over.
    #[must_use]
    pub fn has_passed(&self) -> bool {
        self.0.is_some_and(|at| at <= Instant::now())
    }

    /// When it is over; `None` means never.
    pub(crate) fn instant(&self) -> Option<Instant> {
        self.0
    }

    /// What is left until then; `None` means for ever.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// How long one operation may still take: the operation timeout, but no longer than until one
    /// operation timeout after the deadline.
    pub(crate) fn bound(&self, operation_timeout: Duration) -> Duration {
        match self.0.and_then(|at| at.checked_add(operation_timeout)) {
            Some(end) => end.saturating_duration_since(Instant::now()).min(operation_timeout),
            None => operation_timeout,
        }
    }

    /// Completes when it is over.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn passed(&self) {
        match self.0 {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

pub(crate) use crate::runtime::require_timers as require_runtime;
