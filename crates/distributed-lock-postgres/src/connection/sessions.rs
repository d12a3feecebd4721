//! The sessions of a provider: which of them holds, waits or is idle.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use distributed_lock_core::error::{LockError, LockResult};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::opening::{Joined, Opened, Opening};
use super::second_session::SecondSession;
use super::session::{Session, SessionOptions};
use super::slot::{Borrowed, Reserved, SessionSlot, WaitingSession};
use super::target::Target;
use super::usage::{Room, Usage};
use super::wait_start::WaitStart;
use super::waiting_turns::{SteppingAside, WaitingTurns};
use crate::error::{TooManyLocks, TooManySessions};

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
    waiting: WaitingTurns,
    /// While the server has no room for the second session of a provider that waits.
    pub(super) second: SecondSession,
    /// An index build was seen to wait for snapshots.
    index_build: AtomicBool,
}

#[derive(Default)]
struct Entries {
    open: Vec<Entry>,
    /// Connections that are being made.
    connecting: usize,
    /// The one whose session will be shared by all who need one.
    opening: Option<Opening>,
    locks: usize,
    is_closed: bool,
}

struct Entry {
    session: Arc<Session>,
    usage: Usage,
    idle_since: Instant,
    /// Wakes the task that closes it when it is not needed.
    changed: Arc<Notify>,
    /// That task looks by itself before long.
    has_timer: bool,
}

impl Entry {
    /// Can hold locks and run statements that do not block.
    fn is_shared(&self) -> bool {
        self.usage != Usage::Owned && self.session.is_alive()
    }

    /// Has its task look whether it is still needed.
    fn look_again(&self) {
        if !self.has_timer {
            self.changed.notify_one();
        }
    }
}

/// What becomes of a session that may be idle.
pub(super) enum Retirement {
    /// It was closed, or is not known any more.
    Closed,
    /// It is in use, or the only one.
    WhenChanged,
    At(Instant),
}

impl Entries {
    fn get(&mut self, session: &Session) -> Option<&mut Entry> {
        self.open.iter_mut().find(|entry| entry.session.id() == session.id())
    }

    fn check_open(&self) -> LockResult<()> {
        if self.is_closed { Err(LockError::Cancelled) } else { Ok(()) }
    }
}

impl Sessions {
    pub(crate) fn new(target: Target, options: SessionOptions, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            target,
            options,
            limits,
            entries: Mutex::default(),
            waiting: WaitingTurns::new(limits.waiting_sessions),
            second: SecondSession::default(),
            index_build: AtomicBool::new(false),
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

    fn room(&self) -> Room {
        Room { span: self.options.span, locks: self.limits.locks_per_session }
    }

    /// Room for one more lock, on a session that holds; connects if there is none.
    ///
    /// # Cancel safety
    /// Dropping the future leaves at most an idle session.
    pub(crate) async fn slot(self: &Arc<Self>) -> LockResult<SessionSlot> {
        loop {
            if let Some(slot) = self.free_slot()? {
                return Ok(slot);
            }
            self.open_for_all().await?;
        }
    }

    fn free_slot(self: &Arc<Self>) -> LockResult<Option<SessionSlot>> {
        let room = self.room();
        let mut entries = self.entries();
        entries.check_open()?;
        if entries.locks >= self.limits.locks {
            return Err(LockError::transient(TooManyLocks(self.limits.locks)));
        }
        let free = |entry: &mut Entry| entry.session.is_alive() && entry.usage.add_lock(room);
        let Some(index) = entries.open.iter_mut().position(free) else { return Ok(None) };
        entries.locks += 1;
        Ok(Some(SessionSlot::new(self, Arc::clone(&entries.open[index].session))))
    }

    /// A session for statements that neither block nor lock, other than this one.
    ///
    /// # Cancel safety
    /// Dropping the future leaves at most an idle session.
    pub(crate) async fn beside(self: &Arc<Self>, other: Option<&Session>) -> LockResult<Borrowed> {
        loop {
            if let Some(session) = self.free_to_borrow(other)? {
                return Ok(session);
            }
            self.open_for_all().await?;
        }
    }

    pub(super) fn free_to_borrow(
        self: &Arc<Self>,
        other: Option<&Session>,
    ) -> LockResult<Option<Borrowed>> {
        let (other, room) = (other.map(Session::id), self.room());
        let mut entries = self.entries();
        entries.check_open()?;
        let free = |entry: &mut Entry| {
            let is_other = other != Some(entry.session.id());
            is_other && entry.session.is_alive() && entry.usage.borrow(room)
        };
        let Some(index) = entries.open.iter_mut().position(free) else { return Ok(None) };
        Ok(Some(Borrowed::new(self, Arc::clone(&entries.open[index].session))))
    }

    /// Queues for a session to wait with.
    pub(crate) fn start_wait(&self) -> WaitStart {
        WaitStart::new(self.waiting.queue())
    }

    /// Whether a wait should give up its session for one that has none.
    pub(crate) fn step_aside(&self) -> Option<SteppingAside> {
        self.waiting.step_aside()
    }

    /// Whether an index build waited for snapshots when a wait of ours was last looked after.
    pub(crate) fn sees_index_build(&self) -> bool {
        self.index_build.load(Ordering::Relaxed)
    }

    pub(crate) fn see_index_build(&self, waits: bool) {
        self.index_build.store(waits, Ordering::Relaxed);
    }

    /// One more session that holds nothing, for a wait that has one; `None` if as many wait already as
    /// may.
    ///
    /// # Cancel safety
    /// Dropping the future leaves at most an idle session.
    pub(crate) async fn second_waiting_session(
        self: &Arc<Self>,
    ) -> LockResult<Option<WaitingSession>> {
        let Some(permit) = self.waiting.try_now() else { return Ok(None) };
        Ok(self.session_to_wait().await?.map(|session| session.into_waiting(permit)))
    }

    /// A session that holds nothing, to wait with; `None` if there are as many sessions as may be.
    ///
    /// # Cancel safety
    /// Dropping the future leaves at most an idle session.
    pub(super) async fn session_to_wait(self: &Arc<Self>) -> LockResult<Option<Reserved>> {
        if let Some(session) = self.idle_session() {
            return Ok(Some(session));
        }
        match self.open().await {
            Ok(session) => Ok(Some(session)),
            Err(error) if error.find_source::<TooManySessions>().is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An idle session. Also the only one that can hold, because a wait needs no other for now; but not if
    /// no other may be opened.
    fn idle_session(self: &Arc<Self>) -> Option<Reserved> {
        let mut entries = self.entries();
        let is_full = entries.open.len() + entries.connecting >= self.limits.sessions;
        if is_full && entries.open.iter().filter(|entry| entry.is_shared()).count() < 2 {
            return None;
        }
        let free = |entry: &mut Entry| entry.session.is_alive() && entry.usage.own();
        let index = entries.open.iter_mut().rposition(free)?;
        Some(Reserved::new(self, Arc::clone(&entries.open[index].session)))
    }

    /// Whether a session waits, or is being prepared for it.
    pub(super) fn has_waits(&self) -> bool {
        self.entries().open.iter().any(|entry| entry.usage == Usage::Owned)
    }

    /// Takes part in the opening of a session for all who share one, or begins it.
    pub(super) fn join_opening(&self) -> LockResult<Joined> {
        let mut entries = self.entries();
        entries.check_open()?;
        if let Some(opening) = entries.opening.as_ref().filter(|opening| opening.is_under_way()) {
            return Ok(Joined::UnderWay(opening.clone()));
        }
        let (all, opening) = watch::channel(());
        entries.opening = Some(Opening(opening));
        Ok(Joined::First(all))
    }

    /// Adds a session that was just opened.
    ///
    /// # Errors
    /// [`LockError::Cancelled`] after [`close`](Self::close).
    pub(super) fn add(self: &Arc<Self>, opened: Opened) -> LockResult<Reserved> {
        let Opened { session, changed } = opened;
        let mut entries = self.entries();
        entries.check_open()?;
        let usage = Usage::Owned;
        let idle_since = Instant::now();
        let has_timer = true;
        let entry = Entry { session: Arc::clone(&session), usage, idle_since, changed, has_timer };
        entries.open.push(entry);
        Ok(Reserved::new(self, session))
    }

    /// A connection that is being made counts as a session.
    pub(super) fn begin_connecting(&self) -> LockResult<()> {
        let mut entries = self.entries();
        entries.check_open()?;
        entries.open.retain(|entry| entry.session.is_alive());
        if entries.open.len() + entries.connecting >= self.limits.sessions {
            return Err(LockError::transient(TooManySessions(self.limits.sessions)));
        }
        entries.connecting += 1;
        Ok(())
    }

    pub(super) fn end_connecting(&self) {
        self.entries().connecting -= 1;
    }

    /// Closes a session that was not needed for a while, unless it is the only one.
    pub(super) fn retire(&self, id: u64) -> Retirement {
        let mut entries = self.entries();
        let now = Instant::now();
        let others = entries.open.iter().any(|e| e.session.id() != id && e.is_shared());
        let Some(index) = entries.open.iter().position(|entry| entry.session.id() == id) else {
            // It is being opened.
            return Retirement::At(now + IDLE_FOR);
        };
        let entry = &mut entries.open[index];
        entry.has_timer = entry.usage == Usage::IDLE && others;
        if !entry.has_timer {
            return Retirement::WhenChanged;
        }
        if now < entry.idle_since + IDLE_FOR {
            return Retirement::At(entry.idle_since + IDLE_FOR);
        }
        drop(entries);
        self.close_idle(id, "it was idle");
        Retirement::Closed
    }

    /// Closes a session that is not in use.
    pub(super) fn close_idle(&self, id: u64, reason: &str) {
        let mut entries = self.entries();
        let is_it = |entry: &Entry| entry.session.id() == id && entry.usage == Usage::IDLE;
        let Some(index) = entries.open.iter().position(is_it) else { return };
        let entry = entries.open.swap_remove(index);
        drop(entries);
        entry.session.close(reason);
    }

    /// Closes all sessions, and opens no more.
    pub(crate) fn close(&self) {
        let open = {
            let mut entries = self.entries();
            entries.is_closed = true;
            std::mem::take(&mut entries.open)
        };
        for entry in open {
            entry.session.close("the provider was shut down");
        }
    }

    /// Whether they were closed.
    pub(crate) fn check_open(&self) -> LockResult<()> {
        self.entries().check_open()
    }

    pub(super) fn end_lock(&self, session: &Session) {
        let mut entries = self.entries();
        entries.locks -= 1;
        entries.open.retain(|entry| entry.session.is_alive() || entry.session.id() == session.id());
        self.change(entries, session, Usage::end_lock);
    }

    pub(super) fn end_borrow(&self, session: &Session) {
        self.change(self.entries(), session, Usage::end_borrow);
    }

    /// Gives up the ownership of a session: from now on it has so many locks.
    pub(super) fn end_ownership(&self, session: &Session, usage: Usage) {
        let mut entries = self.entries();
        entries.locks += usage.locks();
        self.change(entries, session, |current| *current = usage);
    }

    fn change(
        &self,
        mut entries: MutexGuard<'_, Entries>,
        session: &Session,
        change: impl FnOnce(&mut Usage),
    ) {
        let Some(entry) = entries.get(session) else { return };
        let was_owned = entry.usage == Usage::Owned;
        change(&mut entry.usage);
        if entry.usage == Usage::IDLE {
            entry.idle_since = Instant::now();
            entry.look_again();
        }
        // Another that is idle need not stay open for those who share one.
        if was_owned {
            let idle = |entry: &&Entry| entry.usage == Usage::IDLE;
            entries.open.iter().filter(idle).for_each(Entry::look_again);
        }
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
