//! Held locks.

use std::fmt;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Owned, drive};
use crate::error::LockResult;
use crate::held_locks;
use crate::token::FencingToken;
use crate::traits::LockHandle;

/// A held lock of a blocking provider.
///
/// Dropping it releases the lock in the background, without blocking.
#[must_use = "the lock is released as soon as its handle is dropped"]
pub struct Handle<H>(Owned<H>);

impl<H: LockHandle> Handle<H> {
    pub(super) fn new(handle: H) -> Self {
        Self(Owned::new(handle))
    }

    /// Releases the lock. See [`LockHandle::release`].
    ///
    /// # Errors
    /// As [`LockHandle::release`].
    pub fn release(self) -> LockResult<()> {
        drive(self.0.take().release())
    }

    /// Whether the lock is lost. See [`LockHandle::is_lost`].
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.0.is_lost()
    }

    /// Cancelled when the lock is lost. See [`LockHandle::lost_token`].
    #[must_use]
    pub fn lost_token(&self) -> &CancellationToken {
        self.0.lost_token()
    }

    /// What is left of the lease. See [`LockHandle::remaining`].
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.0.remaining()
    }

    /// The fencing token. See [`LockHandle::fencing_token`].
    ///
    /// # Errors
    /// As [`LockHandle::fencing_token`].
    pub fn fencing_token(&self) -> LockResult<FencingToken> {
        let handle = self.0.lend();
        drive(async move { handle.fencing_token().await })
    }
}

impl<H: fmt::Debug> fmt::Debug for Handle<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.0).finish()
    }
}

/// Several locks of a blocking provider that are held together.
///
/// Dropping it releases all of them in the background, without blocking.
#[must_use = "the locks are released as soon as they are dropped"]
pub struct HeldLocks<H>(Owned<held_locks::HeldLocks<H>>);

impl<H: LockHandle> HeldLocks<H> {
    pub(super) fn new(held: held_locks::HeldLocks<H>) -> Self {
        Self(Owned::new(held))
    }

    /// The names, each lock once, in the order in which they were acquired.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(|(name, _)| name)
    }

    /// Whether any of them is lost. See [`LockHandle::is_lost`].
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.0.is_lost()
    }

    /// The fencing token of each, in the order of [`names`](Self::names).
    ///
    /// # Errors
    /// As [`LockHandle::fencing_token`], for the first that fails.
    pub fn fencing_tokens(&self) -> LockResult<Vec<FencingToken>> {
        let held = self.0.lend();
        drive(async move {
            let mut tokens = Vec::new();
            for (_, handle) in held.iter() {
                tokens.push(handle.fencing_token().await?);
            }
            Ok(tokens)
        })
    }

    /// Releases all of them. See [`HeldLocks::release`](held_locks::HeldLocks::release).
    ///
    /// # Errors
    /// As [`HeldLocks::release`](held_locks::HeldLocks::release).
    pub fn release(self) -> LockResult<()> {
        drive(self.0.take().release())
    }
}

impl<H: LockHandle> fmt::Debug for HeldLocks<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (*self.0).fmt(f)
    }
}
