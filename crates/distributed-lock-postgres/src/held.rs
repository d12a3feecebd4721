//! A key that a session has locked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use distributed_lock_core::background::spawn_to_the_end;
use distributed_lock_core::error::{LockError, LockResult};

use crate::connection::{Form, Seat, Session};
use crate::key::PostgresAdvisoryLockKey;

/// A lock at the server, and the seat on the session that has it. Dropped without a release, it is
/// released in the background.
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
        let (session, key, form) = (Arc::clone(self.session()), self.key, self.form);
        spawn_to_the_end(session.home(), move || {
            let session = Arc::clone(&session);
            Box::pin(async move {
                // An error is the end of the session, and with it of the lock.
                let _ = session.unlock(key, form).await;
            })
        });
    }
}
