//! A key that a session has locked.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use distributed_lock_core::error::{LockError, LockResult};
use futures_util::FutureExt;

use crate::connection::{Form, Session, SessionSlot};
use crate::in_flight::InFlight;
use crate::key::PostgresAdvisoryLockKey;

/// A lock at the server, and the slot on the session that has it. Dropped without a release, it is
/// unlocked, and nobody waits for the answer.
#[derive(Debug)]
pub(crate) struct Held {
    key: PostgresAdvisoryLockKey,
    form: Form,
    state: Mutex<State>,
    slot: SessionSlot,
}

#[derive(Debug)]
enum State {
    Locked,
    /// Everything later in the session comes after this. The answer: whether it was locked.
    Unlocking(InFlight<LockResult<bool>>),
    Unlocked,
}

impl Held {
    pub(crate) fn new(slot: SessionSlot, key: PostgresAdvisoryLockKey, form: Form) -> Self {
        Self { key, form, state: Mutex::new(State::Locked), slot }
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        self.slot.session()
    }

    /// Unlocks it. Called again after it was dropped half way, it waits for the first unlock.
    pub(crate) async fn release(&self) -> LockResult<()> {
        let (session, key, form) = (Arc::clone(self.session()), self.key, self.form);
        self.release_by(async move { session.unlock(key, form).await }).await
    }

    /// The same by another statement that says whether it was held.
    pub(crate) async fn release_by(
        &self,
        unlock: impl Future<Output = LockResult<bool>> + Send + 'static,
    ) -> LockResult<()> {
        self.session().check_held()?;
        self.begin(unlock);
        match poll_fn(|context| self.poll(context)).await {
            Ok(true) => {
                self.slot.vacate();
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

    /// Sends an unlock, unless one is on its way or was answered.
    fn begin(&self, unlock: impl Future<Output = LockResult<bool>> + Send + 'static) {
        let mut state = self.state();
        if matches!(*state, State::Locked) {
            *state = State::Unlocking(InFlight::new(unlock));
        }
    }

    fn poll(&self, context: &mut std::task::Context<'_>) -> Poll<LockResult<bool>> {
        let mut state = self.state();
        let State::Unlocking(unlock) = &*state else {
            return Poll::Ready(Ok(matches!(*state, State::Unlocked)));
        };
        let answer = std::task::ready!(unlock.poll(context));
        // A refused unlock, interrupted for example, is sent again by the next release.
        *state = if answer.is_ok() { State::Unlocked } else { State::Locked };
        Poll::Ready(answer)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let is_locked = matches!(*self.state(), State::Locked);
        if !is_locked || !self.session().is_alive() {
            return;
        }
        // Its first poll sends it: before the slot is free, and once. A second unlock, or a later one,
        // could be that of the next holder.
        let _ = self.session().unlock(self.key, self.form).now_or_never();
    }
}
