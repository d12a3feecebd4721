//! How a wait gets a session of its own: it queues for its turn, then a session is opened for it.

use std::mem;
use std::sync::Arc;

use distributed_lock_core::error::LockResult;
use tokio::sync::OwnedSemaphorePermit;

use super::sessions::Sessions;
use super::slot::{Reserved, WaitingSession};
use super::waiting_turns::QueuePosition;
use crate::in_flight::InFlight;

/// A wait without a session. What it has reached is kept until it has one, however often it is asked:
/// its position in the queue, its turn, and the connection that is being made.
pub(crate) struct WaitStart(Progress);

enum Progress {
    Queued(QueuePosition),
    /// It is its turn.
    Permitted(OwnedSemaphorePermit),
    Opening(InFlight<Opened>),
    Started,
}

/// The turn, with what has become of the session.
type Opened = (OwnedSemaphorePermit, LockResult<Option<Reserved>>);

impl WaitStart {
    pub(super) fn new(position: QueuePosition) -> Self {
        Self(Progress::Queued(position))
    }

    /// Completes with the session, once; with `None` if there are as many as may be, so that it is to be
    /// asked again later. After that, and after an error, it is still its turn.
    ///
    /// # Cancel safety
    /// Dropped and called again, it goes on where it was.
    pub(crate) async fn session(
        &mut self,
        sessions: &Arc<Sessions>,
    ) -> LockResult<Option<WaitingSession>> {
        loop {
            self.0 = match &self.0 {
                Progress::Queued(position) => match position.taken().await {
                    Some(permit) => Progress::Permitted(permit),
                    None => return Ok(None),
                },
                Progress::Permitted(_) => match mem::replace(&mut self.0, Progress::Started) {
                    Progress::Permitted(permit) => {
                        Progress::Opening(InFlight::new(open(Arc::clone(sessions), permit)))
                    }
                    other => other,
                },
                Progress::Opening(opening) => {
                    let (permit, opened) = opening.answer().await;
                    let (progress, result) = match opened {
                        Ok(Some(session)) => {
                            (Progress::Started, Ok(Some(session.into_waiting(permit))))
                        }
                        Ok(None) => (Progress::Permitted(permit), Ok(None)),
                        Err(error) => (Progress::Permitted(permit), Err(error)),
                    };
                    self.0 = progress;
                    return result;
                }
                Progress::Started => return Ok(None),
            };
        }
    }
}

async fn open(sessions: Arc<Sessions>, permit: OwnedSemaphorePermit) -> Opened {
    let opened = sessions.session_to_wait().await;
    (permit, opened)
}
