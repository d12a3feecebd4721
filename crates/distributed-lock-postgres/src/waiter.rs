//! Waiting in the server's queue.
//!
//! A waiter has a session of its own, which runs one statement that blocks. That statement is a
//! future of its own, too: it goes on while the engine looks up from a wait, and is cancelled only
//! by [`Waiter::cancel`].

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use distributed_lock_core::error::{LockError, LockResult};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::connection::{
    Form, LockEnd, Seen, Session, Sessions, SteppingAside, WaitingSession, interrupt,
};
use crate::driver::Locked;
use crate::held::Held;
use crate::in_flight::InFlight;
use crate::key::PostgresAdvisoryLockKey;
use crate::permits::{Permits, Second};
use crate::resource::Resource;

/// A wait under way.
pub(crate) struct Waiter {
    /// Ends with the lock, or without after [`cancel`](Self::cancel); `None` when it has ended.
    waiting: Option<InFlight<LockResult<Option<Locked>>>>,
    about: Arc<About>,
    sessions: Arc<Sessions>,
    /// How long it keeps its session while other waits have none.
    turn: Duration,
    /// It is giving up its session for one of them.
    stepping_aside: Option<SteppingAside>,
    began: Instant,
    /// When the session was last looked after.
    seen: Instant,
    /// Since when it was seen not to wait, though no answer has come.
    doubtful_since: Option<Instant>,
    cancelled_since: Option<Instant>,
}

/// What the two halves of a waiter share.
pub(crate) struct About {
    /// The session whose statement blocks, or has blocked.
    pub(crate) session: Arc<Session>,
    /// The statement has ended, and its session waits for permits at the head of the queue.
    pub(crate) at_head: AtomicBool,
    /// It waits for permits, and can look for one on the way.
    can_look: bool,
    /// Look for a permit now.
    pub(crate) look: Notify,
    /// It was looked, and there was none.
    pub(crate) looked: Notify,
    pub(crate) stopped: Notify,
    /// The statement that blocks need not be sent any more.
    is_stopped: AtomicBool,
    /// The second statement that blocks, beside a session at the head of the queue, is to be sent anew.
    pub(crate) renew: Notify,
    /// When the statement that blocks was sent last; `None` if none is under way.
    blocked_since: Mutex<Option<Instant>>,
}

impl About {
    /// A statement that blocks is sent; it has ended when this is dropped.
    fn begin_blocking(&self) -> Blocking<'_> {
        *self.blocked_since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Blocking(self)
    }

    /// How long it has blocked, or may have.
    fn blocked_for(&self) -> Option<Duration> {
        let since = self.blocked_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.map(|since| since.elapsed())
    }

    /// Ends the wait: the statement that blocks is not sent any more, or is interrupted.
    pub(crate) fn stop(&self, sessions: &Arc<Sessions>) {
        if !self.is_stopped.swap(true, Ordering::SeqCst) {
            self.stopped.notify_one();
            interrupt(sessions, &self.session);
        }
    }

    fn of(session: &Arc<Session>, wanted: &Wanted) -> Self {
        Self {
            session: Arc::clone(session),
            at_head: AtomicBool::new(false),
            can_look: matches!(wanted, Wanted::Permit { .. }),
            look: Notify::new(),
            looked: Notify::new(),
            stopped: Notify::new(),
            is_stopped: AtomicBool::new(false),
            renew: Notify::new(),
            blocked_since: Mutex::new(None),
        }
    }
}

/// How long a statement may block: it has a snapshot, before which the server's vacuum keeps everything.
const LONGEST_STATEMENT: Duration = Duration::from_secs(50);

/// The longest time between two looks after a session, so that index builds that wait for its snapshot
/// are seen.
const LOOK_AFTER: Duration = Duration::from_secs(4);

/// A statement that blocks is under way.
struct Blocking<'a>(&'a About);

impl Drop for Blocking<'_> {
    fn drop(&mut self) {
        *self.0.blocked_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// What is waited for.
pub(crate) enum Wanted {
    Lock(PostgresAdvisoryLockKey, Form, Arc<Resource>),
    Permit { name: Arc<str>, queue: i64, max: u32, resource: Arc<Resource> },
}

impl Waiter {
    /// Begins to wait. While other waits have no session, it keeps its own for one `turn`.
    pub(crate) fn start(
        session: WaitingSession,
        sessions: &Arc<Sessions>,
        wanted: Wanted,
        turn: Duration,
    ) -> Self {
        let about = Arc::new(About::of(session.session(), &wanted));
        let waiting = match wanted {
            Wanted::Lock(key, form, resource) => {
                InFlight::new(lock(session, Arc::clone(&about), key, form, resource))
            }
            Wanted::Permit { name, queue, max, resource } => {
                let sessions = Arc::clone(sessions);
                let about = Arc::clone(&about);
                let permits = Permits {
                    about,
                    sessions,
                    name,
                    queue,
                    max,
                    resource,
                    second: Second::default(),
                };
                InFlight::new(permits.wait(session))
            }
        };
        Self {
            waiting: Some(waiting),
            about,
            sessions: Arc::clone(sessions),
            turn,
            stepping_aside: None,
            began: Instant::now(),
            seen: Instant::now(),
            doubtful_since: None,
            cancelled_since: None,
        }
    }

    /// Whether it has brought what it brings, or failed.
    pub(crate) fn has_ended(&self) -> bool {
        self.waiting.is_none()
    }

    /// Completes with the lock, or without it after it was cancelled or has ended before.
    pub(crate) async fn granted(&mut self) -> LockResult<Option<Locked>> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<LockResult<Option<Locked>>> {
        let Some(waiting) = &self.waiting else { return Poll::Ready(Ok(None)) };
        let result = ready!(waiting.poll(context));
        self.waiting = None;
        Poll::Ready(result)
    }

    /// Whether it has given up its session for a wait that had none.
    pub(crate) fn has_stepped_aside(&self) -> bool {
        self.stepping_aside.is_some()
    }

    /// What a wait has without waiting for anything but answers: the lock, if it was granted.
    ///
    /// It ends where its session is wanted by another wait, or its statement harms others. Then it is to
    /// be begun anew.
    pub(crate) async fn look(&mut self) -> LockResult<Option<Locked>> {
        if self.cancelled_since.is_some() {
            return self.cancel().await;
        }
        let polled = poll_fn(|context| Poll::Ready(self.poll(context))).await;
        if let Poll::Ready(granted) = polled {
            return granted;
        }
        if self.began.elapsed() >= self.turn {
            self.stepping_aside = self.sessions.step_aside();
        }
        let is_at_head = self.about.at_head.load(Ordering::Acquire);
        if self.stepping_aside.is_some() {
            return self.cancel().await;
        }
        if self.harms_others().await {
            if !is_at_head {
                return self.cancel().await;
            }
            self.about.renew.notify_one();
        }
        if self.about.can_look { self.look_for_permit().await } else { Ok(None) }
    }

    async fn look_for_permit(&mut self) -> LockResult<Option<Locked>> {
        let about = Arc::clone(&self.about);
        let looked = about.looked.notified();
        about.look.notify_one();
        tokio::select! {
            biased;
            granted = self.granted() => granted,
            () = looked => Ok(None),
        }
    }

    /// Whether the snapshot of the statement that blocks is older than it may be, or an index build waits
    /// for it to end. The session is looked after meanwhile.
    async fn harms_others(&mut self) -> bool {
        let Some(blocked) = self.about.blocked_for() else { return false };
        if blocked >= LONGEST_STATEMENT {
            return true;
        }
        // An index build may wait for one snapshot after the other.
        let is_being_built = self.sessions.sees_index_build();
        let pause = self.sessions.options().keepalive.min(LOOK_AFTER);
        if !is_being_built && self.seen.elapsed() < pause {
            return false;
        }
        match self.look_after().await {
            // There is no room for the other session that this needs, or the waiting one is gone.
            Ok(None) => false,
            // One that has begun to wait for snapshots after ours was taken may wait for ours, now or when
            // those before it have ended.
            Ok(Some(seen)) => {
                self.seen = Instant::now();
                let waited_for = seen.snapshots_waited_for;
                self.sessions.see_index_build(waited_for.is_some());
                waited_for.is_some_and(|waited_for| waited_for < blocked)
            }
            // Looked after at the next opportunity.
            Err(error) => {
                tracing::debug!(%error, "a waiting session is not looked after now");
                false
            }
        }
    }

    /// Whether the server still sees the session wait, asked by another: on its own it cannot be asked.
    /// `None` if there is no other.
    async fn look_after(&mut self) -> LockResult<Option<Seen>> {
        let session = &self.about.session;
        let Some(other) = self.sessions.beside_waits(Some(session)).await? else {
            return Ok(None);
        };
        let seen = other.look_after(session).await?;
        if !self.about.at_head.load(Ordering::Acquire) {
            match seen {
                Some(seen) if seen.waits => self.doubtful_since = None,
                // It has an answer for us, which may be on its way, or lost.
                Some(_) => {
                    let since = *self.doubtful_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.sessions.options().keepalive.min(LOOK_AFTER) {
                        session.close("the answer to its wait was lost");
                        other.terminate(session).await?;
                    }
                }
                None => session.close("the server no longer knew it"),
            }
        }
        if seen.is_some_and(|seen| seen.is_crowded) {
            self.sessions.give_up_second(other);
        }
        Ok(seen)
    }

    /// Ends the wait; what it has brought all the same is to be released. May be dropped and called
    /// again, from another runtime too.
    pub(crate) async fn cancel(&mut self) -> LockResult<Option<Locked>> {
        let about = Arc::clone(&self.about);
        let since = *self.cancelled_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.sessions.limits().operation_timeout {
            about.session.close("its wait could not be cancelled");
        }
        about.stop(&self.sessions);
        // Nothing is held after an error.
        Ok(self.granted().await.unwrap_or_default())
    }
}

/// Waits for a lock.
async fn lock(
    session: WaitingSession,
    about: Arc<About>,
    key: PostgresAdvisoryLockKey,
    form: Form,
    resource: Arc<Resource>,
) -> LockResult<Option<Locked>> {
    let Some(session) = block(session, &about, key, form).await? else { return Ok(None) };
    let held = Held::new(session.into_slot(), key, form);
    Ok(Some(match form {
        Form::Exclusive => Locked::Exclusive(held),
        Form::Shared => Locked::Shared(resource.first_reader(held)),
    }))
}

/// Runs the statement that blocks; `None` if it was stopped before.
pub(crate) async fn block(
    waiting: WaitingSession,
    about: &About,
    key: PostgresAdvisoryLockKey,
    form: Form,
) -> LockResult<Option<WaitingSession>> {
    let session = Arc::clone(waiting.session());
    match session.prepare_lock(key, form).await {
        Ok(()) => {}
        // The server has answered: nothing is under way.
        Err(error @ LockError::Backend(_)) => {
            waiting.idle();
            return Err(error);
        }
        Err(error) => return Err(error),
    }
    // From here on it is interrupted; before, it was seen here that it is stopped.
    session.begin_blocking().await;
    if about.is_stopped.load(Ordering::SeqCst) {
        session.end_blocking().await;
        if session.leave_lock().await.is_ok() {
            waiting.idle();
        }
        return Ok(None);
    }
    let blocked = about.begin_blocking();
    let end = session.lock(key, form).await;
    drop(blocked);
    match end {
        LockEnd::Locked => Ok(Some(waiting)),
        LockEnd::Failed(error) => {
            waiting.idle();
            Err(error)
        }
        // Dropped, it is closed.
        LockEnd::Unknown(error) => Err(error),
    }
}
