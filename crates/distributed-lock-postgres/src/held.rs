//! A key that a session has locked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use distributed_lock_core::error::{LockError, LockResult};
use futures_util::FutureExt;

use crate::connection::{Form, Seat, Session};
use crate::key::PostgresAdvisoryLockKey;

/// A lock at the server, and the seat on the session that has it. Dropped without a release, it is
/// unlocked, and nobody waits for the answer.
#[derive(Debug)]
pub(crate) struct Held {
    key: PostgresAdvisoryLockKey,
    form: Form,
    /// Its release is on its way; everything later in the session comes after it.
    is_leaving: AtomicBool,
    seat: Seat,
}

impl Held {
    pub(crate) fn new(seat: Seat, key: PostgresAdvisoryLockKey, form: Form) -> Self {
        Self { key, form, is_leaving: AtomicBool::new(false), seat }
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        self.seat.session()
    }

    /// Unlocks it. Called again after it was dropped half way, it waits for the first unlock.
    pub(crate) async fn release(&self) -> LockResult<()> {
        self.release_by(self.session().unlock(self.key, self.form)).await
    }

    /// The same by another statement that says whether it was held.
    pub(crate) async fn release_by(
        &self,
        unlock: impl Future<Output = LockResult<bool>>,
    ) -> LockResult<()> {
        self.session().check_held()?;
        let answer = if self.is_leaving.swap(true, Ordering::AcqRel) {
            self.session().nothing().await.map(|()| true)
        } else {
            unlock.await
        };
        match answer {
            Ok(true) => {
                self.seat.vacate();
                Ok(())
            }
            Ok(false) => Err(LockError::LockLost("the server no longer had it".into())),
            Err(error) => {
                // What the session had is gone with it.
                self.session().check_held()?;
                Err(error)
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.is_leaving.swap(true, Ordering::AcqRel) || !self.session().is_alive() {
            return;
        }
        // Its first poll sends it: before the seat is free, and once. A second unlock, or a later one,
        // could be that of the next holder.
        let _ = self.session().unlock(self.key, self.form).now_or_never();
    }
}
