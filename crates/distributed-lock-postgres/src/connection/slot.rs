//! What a session is used for, each use as a value that ends with it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::OwnedSemaphorePermit;

use super::interruption::interrupt_closed;
use super::session::Session;
use super::sessions::Sessions;
use super::usage::Usage;

/// Room for one lock on a session, until it is vacated or dropped.
pub(crate) struct SessionSlot {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
    is_vacant: AtomicBool,
}

impl SessionSlot {
    /// For a session in whose usage one more lock was counted.
    pub(super) fn new(sessions: &Arc<Sessions>, session: Arc<Session>) -> Self {
        Self { sessions: Arc::clone(sessions), session, is_vacant: AtomicBool::new(false) }
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The lock is released.
    pub(crate) fn vacate(&self) {
        if !self.is_vacant.swap(true, Ordering::AcqRel) {
            self.sessions.end_lock(&self.session);
        }
    }
}

impl Drop for SessionSlot {
    fn drop(&mut self) {
        self.vacate();
    }
}

/// A session for statements that neither block nor lock. While it is borrowed, nobody waits with it.
pub(crate) struct Borrowed {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
}

impl Borrowed {
    /// For a session in whose usage one more use was counted.
    pub(super) fn new(sessions: &Arc<Sessions>, session: Arc<Session>) -> Self {
        Self { sessions: Arc::clone(sessions), session }
    }
}

impl Deref for Borrowed {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        self.sessions.end_borrow(&self.session);
    }
}

/// A session that has one owner.
pub(super) struct Reserved {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
    /// What it is used for when this is dropped.
    becomes: Usage,
    /// A statement is under way, or its outcome is not known: dropped like this, it is closed.
    is_in_doubt: bool,
}

impl Reserved {
    /// For a session that is owned in its usage.
    pub(super) fn new(sessions: &Arc<Sessions>, session: Arc<Session>) -> Self {
        Self { sessions: Arc::clone(sessions), session, becomes: Usage::IDLE, is_in_doubt: false }
    }

    fn into_slot(mut self) -> SessionSlot {
        self.becomes = Usage::Shared { locks: 1, borrowed: 0 };
        SessionSlot::new(&self.sessions, Arc::clone(&self.session))
    }

    pub(super) fn into_waiting(mut self, permit: OwnedSemaphorePermit) -> WaitingSession {
        self.is_in_doubt = true;
        WaitingSession { session: self, _permit: permit }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.is_in_doubt {
            self.session.close("its wait was given up");
            interrupt_closed(&self.sessions, &self.session);
        }
        self.sessions.end_ownership(&self.session, self.becomes);
    }
}

/// A session that waits. Dropped, it is closed: what became of its statement is not known.
pub(crate) struct WaitingSession {
    session: Reserved,
    _permit: OwnedSemaphorePermit,
}

impl WaitingSession {
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session.session
    }

    /// The session has got what it has waited for, and holds it.
    pub(crate) fn into_slot(mut self) -> SessionSlot {
        self.session.is_in_doubt = false;
        self.session.into_slot()
    }

    /// The session holds nothing, and nothing is under way.
    pub(crate) fn idle(mut self) {
        self.session.is_in_doubt = false;
    }
}

impl fmt::Debug for WaitingSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitingSession").field("session", self.session()).finish_non_exhaustive()
    }
}

impl fmt::Debug for SessionSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionSlot").field("session", &self.session).finish_non_exhaustive()
    }
}
