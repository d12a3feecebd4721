//! Who may wait with a session, where there are more waits than sessions for it.
//!
//! Waits take turns. One that has no session queues for one; one that has had its session for its time
//! steps aside for it, and queues again. Its time doubles then, so that a wait in a long queue at the
//! server gets to its front in the end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::in_flight::InFlight;

/// How long a wait keeps its session the first time, while others have none.
const FIRST: Duration = Duration::from_secs(1);

/// How often that may double.
const DOUBLINGS: u32 = 6;

/// The sessions that may wait at the same time.
#[derive(Debug)]
pub(super) struct WaitingTurns {
    free: Arc<Semaphore>,
    crowd: Arc<Mutex<Crowd>>,
}

#[derive(Debug, Default)]
struct Crowd {
    /// Waits without a session.
    queued: usize,
    /// Waits that are stepping aside for them.
    leaving: usize,
}

impl WaitingTurns {
    pub(super) fn new(sessions: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(sessions)), crowd: Arc::default() }
    }

    /// Queues for a session to wait with.
    pub(super) fn queue(&self) -> QueuePosition {
        lock(&self.crowd).queued += 1;
        let free = Arc::clone(&self.free);
        // The semaphore is never closed.
        let turn = InFlight::new(async move { free.acquire_owned().await.ok() });
        QueuePosition { turn, crowd: Arc::clone(&self.crowd) }
    }

    /// A session to wait with, if one is free.
    pub(super) fn try_now(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// Whether a wait should step aside for one without a session, until this is dropped.
    pub(super) fn step_aside(&self) -> Option<SteppingAside> {
        let mut crowd = lock(&self.crowd);
        if crowd.queued <= crowd.leaving {
            return None;
        }
        crowd.leaving += 1;
        Some(SteppingAside(Arc::clone(&self.crowd)))
    }
}

/// How long a wait keeps its session that has stepped aside so often for others.
pub(crate) fn turn_length(stepped_aside: u32) -> Duration {
    FIRST * 2_u32.pow(stepped_aside.min(DOUBLINGS))
}

/// A position in the queue for a session, until it is dropped.
pub(super) struct QueuePosition {
    turn: InFlight<Option<OwnedSemaphorePermit>>,
    crowd: Arc<Mutex<Crowd>>,
}

impl QueuePosition {
    /// Completes with the turn, once. May be dropped and called again: the position is kept.
    pub(super) async fn taken(&self) -> Option<OwnedSemaphorePermit> {
        self.turn.answer().await
    }
}

impl Drop for QueuePosition {
    fn drop(&mut self) {
        lock(&self.crowd).queued -= 1;
    }
}

/// A wait that is giving up its session for another.
#[derive(Debug)]
pub(crate) struct SteppingAside(Arc<Mutex<Crowd>>);

impl Drop for SteppingAside {
    fn drop(&mut self) {
        lock(&self.0).leaving -= 1;
    }
}

fn lock(crowd: &Mutex<Crowd>) -> MutexGuard<'_, Crowd> {
    crowd.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn one_steps_aside_for_each_that_has_no_session() {
        let turns = WaitingTurns::new(1);
        let first = turns.queue();
        let session = first.taken().now_or_never().flatten();
        drop(first);
        assert!(session.is_some() && turns.step_aside().is_none());
        let second = turns.queue();
        assert!(second.taken().now_or_never().is_none());
        let leaving = turns.step_aside();
        assert!(leaving.is_some() && turns.step_aside().is_none());
        drop(session);
        assert!(second.taken().now_or_never().flatten().is_some());
        drop((second, leaving));
        assert!(turns.step_aside().is_none());
    }

    #[test]
    fn turns_become_longer() {
        assert_eq!(turn_length(0), FIRST);
        assert_eq!(turn_length(2), FIRST * 4);
        assert_eq!(turn_length(u32::MAX), FIRST * 64);
    }
}
