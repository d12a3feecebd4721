//! Waiting for a permit of a semaphore: in a queue, whose head looks for permits.
//!
//! The queue exists against starvation, not for exclusion. A head that does not run, or a stranger
//! with the queue key, keeps no permit from others: they pass it when it leaves one free for longer
//! than it would take a head that runs.

use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use distributed_lock_core::error::{LockError, LockResult};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::connection::{Form, Session, Sessions, Span, WaitingSession, column, holder, interrupt};
use crate::driver::Locked;
use crate::error::EndedSession;
use crate::held::Held;
use crate::key::PostgresAdvisoryLockKey;
use crate::resource::{Permit, Resource};
use crate::waiter::{About, block};

/// How long a head of the queue may leave a permit free that it was woken for: a little less than two
/// fallback periods. It looks by itself once in each.
const PASSED_AFTER: Duration = Duration::from_millis(1900);

/// Waits for a permit: for the head of the queue first, there for a release.
pub(crate) struct Permits {
    pub(crate) about: Arc<About>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) name: Arc<str>,
    pub(crate) queue: i64,
    pub(crate) max: u32,
    pub(crate) resource: Arc<Resource>,
    /// In transactions: the second session of the head, while it blocks on one of the permits.
    pub(crate) second: Second,
}

/// The second session of a head of the queue.
#[derive(Default)]
pub(crate) struct Second {
    blocks: Mutex<Option<Arc<Session>>>,
    /// It has ended without a permit.
    ended: Notify,
}

impl Second {
    fn set(&self, session: Option<Arc<Session>>) -> Option<Arc<Session>> {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *blocks, session)
    }
}

/// What a head of the queue has got.
enum Found {
    Permit(Permit),
    /// The key of a permit, locked by the session that is in the queue.
    ByItself(i64),
}

/// A head of the queue that has left a permit free.
struct Stuck {
    head: String,
    /// Since it was first seen.
    since: Instant,
}

impl Permits {
    /// Completes with a permit, or without one when it was stopped.
    pub(crate) async fn wait(self, waiting: WaitingSession) -> LockResult<Option<Locked>> {
        let queue = PostgresAdvisoryLockKey::Single(self.queue);
        let end = Notify::new();
        let (waiting, passed) = {
            let mut blocked = pin!(block(waiting, &self.about, queue, Form::Exclusive));
            let mut passing = pin!(self.pass_head(&end));
            tokio::select! {
                biased;
                waiting = &mut blocked => {
                    // A request that is under way is answered first.
                    end.notify_one();
                    (waiting, passing.await)
                }
                passed = &mut passing => {
                    self.about.stop(&self.sessions);
                    (blocked.await, passed)
                }
            }
        };
        let waiting = match (waiting, passed.is_some()) {
            (Ok(Some(waiting)), _) => waiting,
            (Ok(None) | Err(_), true) => return Ok(passed.map(Locked::Permit)),
            (Ok(None), false) => return Ok(None),
            (Err(error), false) => return Err(error),
        };
        let session = Arc::clone(waiting.session());
        let found = match passed {
            Some(permit) => Ok(Some(Found::Permit(permit))),
            None => {
                self.about.at_head.store(true, Ordering::Release);
                self.at_head(&session).await
            }
        };
        let left = self.leave_queue(&session, queue).await;
        let found = found?;
        if let Some(Found::ByItself(slot)) = found {
            // A session in doubt is closed, and with it the permit and the queue key are free.
            left?;
            let key = PostgresAdvisoryLockKey::Single(slot);
            let held = Held::new(waiting.into_slot(), key, Form::Exclusive);
            return Ok(Some(Locked::Permit(self.resource.permit(held, slot, self.queue))));
        }
        // No failure may cost a permit of another session: this one is closed then.
        if left.is_ok() {
            waiting.idle();
        }
        Ok(match found {
            Some(Found::Permit(permit)) => Some(Locked::Permit(permit)),
            Some(Found::ByItself(_)) | None => None,
        })
    }

    /// Completes with a permit that the head of the queue has not taken although it could, or without
    /// one at the `end`.
    async fn pass_head(&self, end: &Notify) -> Option<Permit> {
        let mut stuck = None;
        let mut is_second = true;
        loop {
            tokio::select! {
                biased;
                () = end.notified() => return None,
                () = self.about.look.notified() => {}
            }
            is_second = !is_second;
            // Every other time is often enough, unless there is something to be confirmed.
            let found = if is_second || stuck.is_some() {
                self.look_past_head(&mut stuck).await
            } else {
                None
            };
            if found.is_some() {
                return found;
            }
            self.about.looked.notify_waiters();
        }
    }

    /// Looks for a free permit although a head of the queue comes first. That head is woken for it; if
    /// the same one has left a permit free until a later look, it does not run, and is passed.
    async fn look_past_head(&self, stuck: &mut Option<Stuck>) -> Option<Permit> {
        let before = stuck.take();
        // While there is no room for another session, no head is passed.
        drop(self.sessions.beside_waits(Some(&self.about.session)).await.ok()??);
        let permit = self.try_permit().await.ok()??;
        if let Some(head) = self.head().await {
            let same = before.filter(|before| before.head == head);
            let since = same.map_or_else(Instant::now, |stuck| stuck.since);
            if since.elapsed() >= PASSED_AFTER {
                return Some(permit);
            }
            *stuck = Some(Stuck { head, since });
        }
        if let Err(error) = permit.release().await {
            tracing::debug!(%error, "a permit that was left to another waiter is not free yet");
        }
        None
    }

    /// The process at the server that has the queue key.
    async fn head(&self) -> Option<String> {
        let session = self.sessions.beside_waits(Some(&self.about.session)).await.ok()??;
        let key = PostgresAdvisoryLockKey::Single(self.queue);
        let answers = session.words(&holder(key)).await.ok()?;
        column(&answers, 0).map(str::to_owned)
    }

    /// Looks for a permit whenever one may be free, until there is one or the wait is stopped.
    async fn at_head(&self, session: &Session) -> LockResult<Option<Found>> {
        if session.span() == Span::Session {
            session.listen(Some(self.queue)).await?;
        }
        // It goes on through all looks: in a transaction, a wait that is dropped costs its session.
        let mut release = pin!(self.next_release(session));
        loop {
            match self.find(session).await {
                Ok(None) => {}
                // The position is kept while another session cannot be had.
                Err(error) if error.is_retryable() && session.is_alive() => {}
                found => return found,
            }
            self.about.looked.notify_waiters();
            tokio::select! {
                biased;
                () = self.about.stopped.notified() => {
                    return self.end_second(release).await.map(|()| None);
                }
                permit = &mut release => match permit {
                    Some(permit) => return Ok(Some(Found::Permit(permit))),
                    None => release.set(self.next_release(session)),
                },
                () = self.resource.given_back() => {}
                () = self.about.renew.notified() => release.set(self.next_release(session)),
                () = self.about.look.notified() => {}
                () = session.ended() => return Err(LockError::connection(EndedSession)),
            }
        }
    }

    /// Ends the second session's wait, so that nothing of it is at the server when this returns. The
    /// permit that it may have won meanwhile is released.
    async fn end_second(
        &self,
        release: Pin<&mut impl Future<Output = Option<Permit>>>,
    ) -> LockResult<()> {
        let Some(second) = self.second.set(None) else { return Ok(()) };
        interrupt(&self.sessions, &second);
        tokio::select! {
            biased;
            permit = release => if let Some(permit) = permit { permit.release().await? },
            () = self.second.ended.notified() => {}
        }
        Ok(())
    }

    /// Looks for a permit, on the session at the head of the queue itself; in transactions on another:
    /// each lock has one of its own.
    async fn find(&self, session: &Session) -> LockResult<Option<Found>> {
        if session.span() == Span::Transaction {
            return Ok(self.try_permit().await?.map(Found::Permit));
        }
        let candidates = self.resource.candidates(&self.name, self.max);
        if candidates.is_empty() {
            return Ok(None);
        }
        session.prepare_scan().await?;
        Ok(session.scan(&candidates).await?.map(Found::ByItself))
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
        let Ok(Some(session)) = self.sessions.second_waiting_session().await else {
            return std::future::pending().await;
        };
        let slot = self.resource.any_slot(&self.name, self.max);
        let key = PostgresAdvisoryLockKey::Single(slot);
        self.second.set(Some(Arc::clone(session.session())));
        let won = block(session, &self.about, key, Form::Exclusive).await;
        self.second.set(None);
        match won {
            Ok(Some(session)) => {
                let held = Held::new(session.into_slot(), key, Form::Exclusive);
                Some(self.resource.permit(held, slot, self.queue))
            }
            Ok(None) | Err(_) => {
                self.second.ended.notify_one();
                std::future::pending().await
            }
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
