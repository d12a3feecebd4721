//! The handle of a held lock.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::driver::Driver;
use crate::engine::Engine;
use crate::error::{LockError, LockResult};
use crate::hold::Hold;
use crate::token::FencingToken;
use crate::traits::LockHandle;

/// A held lock on any backend; the backends' handles are newtypes of it.
///
/// Dropping it releases the lock without blocking, inside or outside a runtime. See [`LockHandle`]
/// for what it can do.
#[must_use = "the lock is released as soon as its handle is dropped"]
pub struct Handle<D: Driver> {
    engine: Arc<Engine<D>>,
    /// Taken by [`release`](LockHandle::release).
    hold: Option<Arc<Hold<D>>>,
}

impl<D: Driver> Handle<D> {
    pub(crate) fn new(engine: Arc<Engine<D>>, hold: Arc<Hold<D>>) -> Self {
        Self { engine, hold: Some(hold) }
    }

    fn hold(&self) -> &Arc<Hold<D>> {
        match &self.hold {
            Some(hold) => hold,
            None => unreachable!("only `release` takes the hold, and it consumes the handle"),
        }
    }
}

impl<D: Driver> LockHandle for Handle<D> {
    async fn release(mut self) -> LockResult<()> {
        match self.hold.take() {
            Some(hold) => self.engine.release(hold).await,
            None => Ok(()),
        }
    }

    fn lost_token(&self) -> &CancellationToken {
        self.hold().claim.public_token()
    }

    fn is_lost(&self) -> bool {
        self.hold().claim.is_lost()
    }

    fn remaining(&self) -> Option<Duration> {
        self.hold().claim.remaining()
    }

    async fn fencing_token(&self) -> LockResult<FencingToken> {
        let hold = self.hold();
        let lost = || LockError::LockLost(hold.claim.loss_reason());
        if hold.claim.is_lost() {
            return Err(lost());
        }
        if let Some(token) = hold.token.get() {
            return Ok(*token);
        }
        let token = self.engine.request(self.engine.driver.fencing_token(&hold.grant)).await?;
        if hold.claim.is_lost() {
            return Err(lost());
        }
        Ok(*hold.token.get_or_init(|| token))
    }

    fn loss_reason(&self) -> Option<String> {
        let claim = &self.hold().claim;
        claim.is_lost().then(|| claim.loss_reason())
    }

    fn loss_signal(&self) -> &CancellationToken {
        self.hold().claim.signal()
    }

    #[cfg(unix)]
    fn keep_alive_fd(&self) -> LockResult<Option<std::os::fd::OwnedFd>> {
        self.engine.driver.keep_alive_fd(&self.hold().grant)
    }
}

impl<D: Driver> Drop for Handle<D> {
    fn drop(&mut self) {
        if let Some(hold) = self.hold.take() {
            self.engine.give_back(hold);
        }
    }
}

impl<D: Driver> fmt::Debug for Handle<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("name", &self.hold().name())
            .field("is_lost", &self.is_lost())
            .finish_non_exhaustive()
    }
}
