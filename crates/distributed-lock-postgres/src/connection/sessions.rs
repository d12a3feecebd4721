//! The sessions of a provider: which of them holds, waits or is idle.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use distributed_lock_core::background::BoxFuture;
use distributed_lock_core::error::{LockError, LockResult};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::limit::within;
use super::session::{Session, SessionOptions};
use super::target::Target;
use crate::error::{NoConnection, TooManyLocks, TooManySessions};

/// How long a session that is not needed stays open: the next waiter may want it.
const IDLE_FOR: Duration = Duration::from_millis(500);

/// How many sessions there may be, and what each may do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) sessions: usize,
    pub(crate) waiting_sessions: usize,
    pub(crate) locks_per_session: usize,
    /// In all sessions together.
    pub(crate) locks: usize,
    /// For a new connection.
    pub(crate) operation_timeout: Duration,
}

/// All sessions of one provider.
pub(crate) struct Sessions {
    target: Target,
    options: SessionOptions,
    limits: Limits,
    entries: Mutex<Entries>,
    /// One connects, the others wait for the same session.
    connecting: tokio::sync::Mutex<()>,
    waiting: Arc<Semaphore>,
    /// Another session became idle.
    idle: Notify,
}

#[derive(Default)]
struct Entries {
    open: Vec<Entry>,
    connecting: usize,
    locks: usize,
}

struct Entry {
    session: Arc<Session>,
    locks: usize,
    waits: bool,
    idle_since: Instant,
}

impl Entry {
    /// May hold and run statements that do not block.
    fn is_usable(&self) -> bool {
        !self.waits && self.session.is_alive()
    }
}

impl Sessions {
    pub(crate) fn new(target: Target, options: SessionOptions, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            target,
            options,
            limits,
            entries: Mutex::default(),
            connecting: tokio::sync::Mutex::new(()),
            waiting: Arc::new(Semaphore::new(limits.waiting_sessions)),
            idle: Notify::new(),
        })
    }

    pub(crate) fn options(&self) -> SessionOptions {
        self.options
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// A place for one more lock, on a session that holds; connects if there is none.
    pub(crate) async fn seat(self: &Arc<Self>) -> LockResult<Seat> {
        if let Some(seat) = self.free_seat()? {
            return Ok(seat);
        }
        let _turn = self.connecting.lock().await;
        if let Some(seat) = self.free_seat()? {
            return Ok(seat);
        }
        let session = self.open(|entry| entry.locks = 1).await?;
        Ok(Seat::new(self, session))
    }

    fn free_seat(self: &Arc<Self>) -> LockResult<Option<Seat>> {
        let mut entries = self.entries();
        if entries.locks >= self.limits.locks {
            return Err(LockError::backend(TooManyLocks(self.limits.locks)));
        }
        let most = self.limits.locks_per_session;
        let room = |entry: &&mut Entry| entry.is_usable() && entry.locks < most;
        let Some(entry) = entries.open.iter_mut().find(room) else { return Ok(None) };
        entry.locks += 1;
        let session = Arc::clone(&entry.session);
        entries.locks += 1;
        Ok(Some(Seat::new(self, session)))
    }

    /// A session for statements that neither block nor lock, other than this one.
    pub(crate) async fn beside(
        self: &Arc<Self>,
        other: Option<&Session>,
    ) -> LockResult<Arc<Session>> {
        if let Some(session) = self.usable(other) {
            return Ok(session);
        }
        let _turn = self.connecting.lock().await;
        match self.usable(other) {
            Some(session) => Ok(session),
            None => self.open(|_| {}).await,
        }
    }

    /// A session for a statement that neither blocks nor locks.
    pub(crate) async fn any(self: &Arc<Self>) -> LockResult<Arc<Session>> {
        self.beside(None).await
    }

    /// In transactions a session that holds has no room for anything else. Who is used is not idle.
    fn usable(&self, other: Option<&Session>) -> Option<Arc<Session>> {
        let other = other.map(Session::id);
        let most = self.limits.locks_per_session;
        let mut entries = self.entries();
        let usable = |entry: &&mut Entry| {
            entry.is_usable() && other != Some(entry.session.id()) && (most > 1 || entry.locks == 0)
        };
        let entry = entries.open.iter_mut().find(usable)?;
        entry.idle_since = Instant::now();
        Some(Arc::clone(&entry.session))
    }

    /// A session that holds nothing, to wait with; `None` if as many wait already as may.
    pub(crate) async fn waiting_seat(self: &Arc<Self>) -> LockResult<Option<WaitingSeat>> {
        let Ok(permit) = Arc::clone(&self.waiting).try_acquire_owned() else { return Ok(None) };
        let session = match self.idle_session() {
            Some(session) => session,
            None => match self.open(|entry| entry.waits = true).await {
                Ok(session) => session,
                Err(LockError::Backend(source)) if source.is::<TooManySessions>() => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            },
        };
        Ok(Some(WaitingSeat { sessions: Arc::clone(self), session: Some(session), permit }))
    }

    /// An idle session, if another stays that can hold, and cancel this one's wait.
    fn idle_session(&self) -> Option<Arc<Session>> {
        let mut entries = self.entries();
        if entries.open.iter().filter(|entry| entry.is_usable()).count() < 2 {
            return None;
        }
        let idle = |entry: &&mut Entry| entry.is_usable() && entry.locks == 0;
        let entry = entries.open.iter_mut().rfind(idle)?;
        entry.waits = true;
        Some(Arc::clone(&entry.session))
    }

    /// Connects, within the operation timeout.
    async fn open(
        self: &Arc<Self>,
        begin: impl FnOnce(&mut Entry) + Send,
    ) -> LockResult<Arc<Session>> {
        let _connecting = Connecting::begin(self)?;
        let retire = {
            let sessions = Arc::downgrade(self);
            move |id| -> BoxFuture<'static, ()> {
                let sessions = sessions.clone();
                Box::pin(async move {
                    while let Some(sessions) = sessions.upgrade() {
                        let changed = sessions.idle.notified();
                        let Some(look) = sessions.retire(id) else { return };
                        tokio::select! {
                            () = changed => {}
                            () = tokio::time::sleep_until(look) => {}
                        }
                    }
                })
            }
        };
        // Boxed: rare, and much larger than everything else that an acquire is made of.
        let session = Box::pin(Session::open(&self.target, self.options, retire));
        let limit = self.limits.operation_timeout;
        let opened = within(limit, session).await;
        let session = opened.ok_or_else(|| LockError::connection(NoConnection(limit)))??;
        let mut entry = Entry {
            session: Arc::clone(&session),
            locks: 0,
            waits: false,
            idle_since: Instant::now(),
        };
        begin(&mut entry);
        let mut entries = self.entries();
        entries.locks += entry.locks;
        entries.open.push(entry);
        Ok(session)
    }

    /// Closes a session that nobody has needed for a while, unless it is the only one; otherwise says
    /// when to look again.
    fn retire(&self, id: u64) -> Option<Instant> {
        let mut entries = self.entries();
        let now = Instant::now();
        let others = entries.open.iter().any(|e| e.session.id() != id && e.is_usable());
        let Some(index) = entries.open.iter().position(|entry| entry.session.id() == id) else {
            // Not in use yet.
            return Some(now + IDLE_FOR);
        };
        let entry = &entries.open[index];
        if entry.locks > 0 || entry.waits || !others {
            return Some(now + Duration::from_secs(3600));
        }
        if now < entry.idle_since + IDLE_FOR {
            return Some(entry.idle_since + IDLE_FOR);
        }
        let entry = entries.open.swap_remove(index);
        drop(entries);
        entry.session.close("it was idle");
        None
    }

    fn leave(&self, session: &Session) {
        let mut entries = self.entries();
        entries.locks -= 1;
        entries.open.retain(|entry| entry.session.is_alive() || entry.session.id() == session.id());
        let several = entries.open.len() > 1;
        let of_session = |entry: &&mut Entry| entry.session.id() == session.id();
        let Some(entry) = entries.open.iter_mut().find(of_session) else { return };
        entry.locks -= 1;
        if entry.locks == 0 && several {
            entry.idle_since = Instant::now();
            drop(entries);
            self.idle.notify_waiters();
        }
    }

    /// Ends a session's wait: it is idle, or holds what it has waited for.
    fn waited(&self, session: &Session, locks: usize) {
        let mut entries = self.entries();
        entries.locks += locks;
        let of_session = |entry: &&mut Entry| entry.session.id() == session.id();
        if let Some(entry) = entries.open.iter_mut().find(of_session) {
            entry.waits = false;
            entry.locks = locks;
            entry.idle_since = Instant::now();
        }
        drop(entries);
        self.idle.notify_waiters();
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// A connection attempt counts as a session.
struct Connecting<'a>(&'a Sessions);

impl<'a> Connecting<'a> {
    fn begin(sessions: &'a Sessions) -> LockResult<Self> {
        let mut entries = sessions.entries();
        entries.open.retain(|entry| entry.session.is_alive());
        if entries.open.len() + entries.connecting >= sessions.limits.sessions {
            return Err(LockError::backend(TooManySessions(sessions.limits.sessions)));
        }
        entries.connecting += 1;
        Ok(Self(sessions))
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.entries().connecting -= 1;
    }
}

/// Room for one lock on a session, until it is vacated or dropped.
pub(crate) struct Seat {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
    is_vacant: AtomicBool,
}

impl Seat {
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The lock is released.
    pub(crate) fn vacate(&self) {
        if !self.is_vacant.swap(true, Ordering::AcqRel) {
            self.sessions.leave(&self.session);
        }
    }

    fn new(sessions: &Arc<Sessions>, session: Arc<Session>) -> Self {
        Self { sessions: Arc::clone(sessions), session, is_vacant: AtomicBool::new(false) }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.vacate();
    }
}

/// A session that waits. Dropped, it is closed, because nobody knows what became of its statement.
pub(crate) struct WaitingSeat {
    sessions: Arc<Sessions>,
    session: Option<Arc<Session>>,
    permit: OwnedSemaphorePermit,
}

impl WaitingSeat {
    pub(crate) fn session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref()
    }

    /// The session has got what it has waited for, and holds it.
    pub(crate) fn into_seat(mut self) -> Option<Seat> {
        let session = self.session.take()?;
        self.sessions.waited(&session, 1);
        Some(Seat::new(&self.sessions, session))
    }

    /// The session holds nothing, and nothing is under way.
    pub(crate) fn idle(mut self) {
        if let Some(session) = self.session.take() {
            self.sessions.waited(&session, 0);
        }
    }
}

impl Drop for WaitingSeat {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.close("its wait was given up");
            self.sessions.waited(&session, 0);
        }
    }
}

impl fmt::Debug for WaitingSeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitingSeat").field("permit", &self.permit).finish_non_exhaustive()
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("session", &self.session).finish_non_exhaustive()
    }
}
