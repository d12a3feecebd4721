//! Waiting in the server's queue.
//!
//! A waiter has a session of its own, which runs one statement that blocks. That statement is a
//! future of its own, too: it goes on while the engine looks up from a wait, and is cancelled only
//! by [`Waiter::cancel`].

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use distributed_lock_core::error::{LockError, LockResult};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::connection::{Form, LockEnd, Session, Sessions, Span, WaitingSession};
use crate::driver::Locked;
use crate::error::EndedSession;
use crate::held::Held;
use crate::in_flight::InFlight;
use crate::key::PostgresAdvisoryLockKey;
use crate::resource::{Permit, Resource};

/// A wait under way.
pub(crate) struct Waiter {
    /// Ends with the lock, or without after [`cancel`](Self::cancel); `None` when it has ended.
    waiting: Option<InFlight<LockResult<Option<Locked>>>>,
    about: Arc<About>,
    sessions: Arc<Sessions>,
    /// When the session was last seen alive.
    seen: Instant,
    /// It was seen not to wait, though no answer has come.
    is_doubtful: bool,
    cancelled_since: Option<Instant>,
}

/// What the two halves of a waiter tell each other.
struct About {
    /// The session whose statement blocks, or has blocked.
    session: Arc<Session>,
    /// The statement has ended, and its session waits for permits at the head of the queue.
    at_head: AtomicBool,
    /// Look for a permit now.
    look: Notify,
    /// It was looked, and there was none.
    looked: Notify,
    stop: Notify,
    /// The statement that blocks need not be sent any more.
    is_stopped: AtomicBool,
}

impl About {
    fn of(session: &Arc<Session>) -> Self {
        Self {
            session: Arc::clone(session),
            at_head: AtomicBool::new(false),
            look: Notify::new(),
            looked: Notify::new(),
            stop: Notify::new(),
            is_stopped: AtomicBool::new(false),
        }
    }
}

/// How long to wait between two looks at a statement that is to be interrupted.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// What is waited for.
pub(crate) enum Wanted {
    Lock(PostgresAdvisoryLockKey, Form, Arc<Resource>),
    Permit { name: Arc<str>, queue: i64, max: u32, resource: Arc<Resource> },
}

impl Waiter {
    pub(crate) fn start(session: WaitingSession, sessions: &Arc<Sessions>, wanted: Wanted) -> Self {
        let about = Arc::new(About::of(session.session()));
        let waiting = match wanted {
            Wanted::Lock(key, form, resource) => {
                InFlight::new(lock(session, Arc::clone(&about), key, form, resource))
            }
            Wanted::Permit { name, queue, max, resource } => {
                let permits = Permits {
                    about: Arc::clone(&about),
                    sessions: Arc::clone(sessions),
                    name,
                    queue,
                    max,
                    resource,
                };
                InFlight::new(permits.wait(session))
            }
        };
        Self {
            waiting: Some(waiting),
            about,
            sessions: Arc::clone(sessions),
            seen: Instant::now(),
            is_doubtful: false,
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

    /// What a wait has without waiting for anything but answers: the lock, if it was granted.
    pub(crate) async fn look(&mut self) -> LockResult<Option<Locked>> {
        if self.about.at_head.load(Ordering::Acquire) {
            let about = Arc::clone(&self.about);
            let looked = about.looked.notified();
            about.look.notify_one();
            return tokio::select! {
                biased;
                granted = self.granted() => granted,
                () = looked => Ok(None),
            };
        }
        let polled = poll_fn(|context| Poll::Ready(self.poll(context))).await;
        if let Poll::Ready(granted) = polled {
            return granted;
        }
        self.check_session().await?;
        Ok(None)
    }

    /// Whether the server still sees the session wait, asked by another once in a keepalive's time:
    /// on its own it cannot be asked.
    async fn check_session(&mut self) -> LockResult<()> {
        let session = &self.about.session;
        if self.seen.elapsed() < self.sessions.options().keepalive {
            return Ok(());
        }
        let other = self.sessions.beside(Some(session)).await?;
        match other.sees_waiting(session).await? {
            Some(true) => self.is_doubtful = false,
            // It has an answer for us, which may be on its way, or lost.
            Some(false) if !self.is_doubtful => self.is_doubtful = true,
            Some(false) => {
                other.terminate(session).await?;
                session.close("the answer to its wait was lost");
            }
            None => session.close("the server no longer knew it"),
        }
        self.seen = Instant::now();
        Ok(())
    }

    /// Ends the wait; what it has brought all the same is to be released. May be dropped and called
    /// again, from another runtime too.
    pub(crate) async fn cancel(&mut self) -> LockResult<Option<Locked>> {
        let about = Arc::clone(&self.about);
        let since = *self.cancelled_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.sessions.limits().operation_timeout {
            about.session.close("its wait could not be cancelled");
        }
        about.is_stopped.store(true, Ordering::Release);
        about.stop.notify_one();
        let interruption = interrupt(Arc::clone(&self.sessions), about);
        let granted = tokio::select! {
            biased;
            granted = self.granted() => granted,
            () = interruption => self.granted().await,
        };
        // Nothing is held after an error.
        Ok(granted.unwrap_or_default())
    }
}

/// Interrupts the blocked statement, from a session that holds; returns when there is nothing more
/// to be done.
async fn interrupt(sessions: Arc<Sessions>, about: Arc<About>) {
    let session = &about.session;
    loop {
        if about.at_head.load(Ordering::Acquire) || !session.is_alive() {
            return;
        }
        let told = match sessions.beside(Some(session)).await {
            Ok(other) => other.cancel_wait_of(session).await,
            Err(error) => Err(error),
        };
        match told {
            // Told, or it does not wait: the statement has not arrived yet, or its answer is on its
            // way.
            Ok(Some(_)) => tokio::time::sleep(LOOK_AGAIN).await,
            Ok(None) | Err(_) => return session.close("its wait could not be cancelled"),
        }
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
async fn block(
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
    if about.is_stopped.load(Ordering::Acquire) {
        if session.leave_lock().await.is_ok() {
            waiting.idle();
        }
        return Ok(None);
    }
    match session.lock(key, form).await {
        LockEnd::Locked => Ok(Some(waiting)),
        LockEnd::Failed(error) => {
            waiting.idle();
            Err(error)
        }
        // Dropped, it is closed.
        LockEnd::Unknown(error) => Err(error),
    }
}

/// Waits for a permit: for the head of the queue first, there for a release.
struct Permits {
    about: Arc<About>,
    sessions: Arc<Sessions>,
    name: Arc<str>,
    queue: i64,
    max: u32,
    resource: Arc<Resource>,
}

impl Permits {
    async fn wait(self, waiting: WaitingSession) -> LockResult<Option<Locked>> {
        let queue = PostgresAdvisoryLockKey::Single(self.queue);
        let waiting = block(waiting, &self.about, queue, Form::Exclusive).await?;
        let Some(waiting) = waiting else { return Ok(None) };
        let session = Arc::clone(waiting.session());
        self.about.at_head.store(true, Ordering::Release);
        let found = self.at_head(&session).await;
        // Nothing that fails from here on may cost the permit: a session in doubt is closed, and
        // with it the queue key is free.
        if self.leave_queue(&session, queue).await.is_ok() {
            waiting.idle();
        }
        Ok(found?.map(Locked::Permit))
    }

    /// Looks for a permit whenever one may be free, until there is one or the wait is stopped.
    async fn at_head(&self, session: &Session) -> LockResult<Option<Permit>> {
        if session.span() == Span::Session {
            session.listen(Some(self.queue)).await?;
        }
        // It goes on through all looks: in a transaction, a wait that is dropped costs its session.
        let mut release = pin!(self.next_release(session));
        loop {
            match self.try_permit().await {
                // The place is kept while another session is out of reach.
                Ok(None) | Err(LockError::Connection(_)) => {}
                found => return found,
            }
            self.about.looked.notify_waiters();
            tokio::select! {
                biased;
                () = self.about.stop.notified() => return Ok(None),
                permit = &mut release => match permit {
                    Some(_) => return Ok(permit),
                    None => release.set(self.next_release(session)),
                },
                () = self.resource.given_back() => {}
                () = self.about.look.notified() => {}
                () = session.ended() => return Err(LockError::connection(EndedSession)),
            }
        }
    }

    async fn try_permit(&self) -> LockResult<Option<Permit>> {
        if self.resource.holds_all(&self.name, self.max) {
            return Ok(None);
        }
        let slot = self.sessions.slot().await?;
        slot.session().prepare_scan().await?;
        self.resource.try_permit(slot, (&self.name, self.queue), self.max).await
    }

    /// Completes when a permit may be free, or with a permit.
    async fn next_release(&self, session: &Session) -> Option<Permit> {
        if session.span() == Span::Session {
            session.notified().await;
            return None;
        }
        // Notifications do not pass a pooler that changes servers. So one more session waits for one
        // of the permits; the others are looked for once in a fallback period.
        let Ok(Some(session)) = self.sessions.waiting_session().await else {
            return std::future::pending().await;
        };
        let slot = self.resource.any_slot(&self.name, self.max);
        let key = PostgresAdvisoryLockKey::Single(slot);
        match block(session, &self.about, key, Form::Exclusive).await {
            Ok(Some(session)) => {
                let held = Held::new(session.into_slot(), key, Form::Exclusive);
                Some(self.resource.permit(held, slot, self.queue))
            }
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    async fn leave_queue(
        &self,
        session: &Session,
        queue: PostgresAdvisoryLockKey,
    ) -> LockResult<()> {
        let unlisten = async {
            match session.span() {
                Span::Session => session.listen(None).await,
                Span::Transaction => Ok(()),
            }
        };
        let (unlistened, unlocked) = tokio::join!(unlisten, session.unlock(queue, Form::Exclusive));
        unlistened.and(unlocked.map(drop))
    }
}
