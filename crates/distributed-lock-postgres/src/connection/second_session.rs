//! The session beside those that wait: opened late, and done without while there is no room for it.
//!
//! A wait needs only its own session. Another one notices what the waiting one cannot: an answer that
//! was lost, an index build that waits for its snapshot, a head of a semaphore's queue that does not
//! run. It also answers who holds a lock. Where connections are scarce it is open only for a look now and
//! then: on a server with as many waiting processes as connections, it would keep out others that want to
//! wait.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use distributed_lock_core::error::LockResult;
use tokio::time::Instant;

use super::session::Session;
use super::sessions::Sessions;
use super::slot::Borrowed;
use crate::error::has_no_room;

/// The shortest time until it is opened again, where there was no room for it. The longest is twice that:
/// many processes shall not ask at once.
const PAUSE: Duration = Duration::from_secs(15);

/// When it may be opened again; `None`: now.
#[derive(Debug, Default)]
pub(super) struct SecondSession(Mutex<Option<Instant>>);

impl SecondSession {
    fn may_be_opened(&self) -> bool {
        let not_before = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        not_before.is_none_or(|not_before| not_before <= Instant::now())
    }

    fn opens_later(&self) {
        let jitter = PAUSE.mul_f64(random_fraction());
        let not_before = Instant::now() + PAUSE + jitter;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(not_before);
    }
}

impl Sessions {
    /// A session for statements that neither block nor lock, other than `waiting`; `None` while this
    /// provider waits and there is no room for one more session.
    ///
    /// # Cancel safety
    /// Dropping the future leaves at most an idle session.
    pub(crate) async fn beside_waits(
        self: &Arc<Self>,
        waiting: Option<&Session>,
    ) -> LockResult<Option<Borrowed>> {
        if let Some(session) = self.free_to_borrow(waiting)? {
            return Ok(Some(session));
        }
        if !self.has_waits() {
            return self.beside(waiting).await.map(Some);
        }
        if !self.second.may_be_opened() {
            return Ok(None);
        }
        match self.beside(waiting).await {
            Err(error) if has_no_room(&error) => {
                tracing::debug!(%error, "there is no room for a session beside those that wait");
                self.second.opens_later();
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    /// Closes a session beside those that wait, if nothing else uses it, because connections are scarce.
    pub(crate) fn give_up_second(&self, second: Borrowed) {
        self.second.opens_later();
        let id = second.id();
        drop(second);
        self.close_idle(id, "the server has few connections left");
    }
}

/// From 0 to 1.
fn random_fraction() -> f64 {
    let random = RandomState::new().hash_one(());
    f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_refusal_it_is_opened_later() {
        let second = SecondSession::default();
        assert!(second.may_be_opened());
        second.opens_later();
        tokio::time::advance(PAUSE - Duration::from_millis(1)).await;
        assert!(!second.may_be_opened());
        tokio::time::advance(PAUSE + Duration::from_millis(1)).await;
        assert!(second.may_be_opened());
    }
}
