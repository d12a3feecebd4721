//! What a session is asked about keys: to lock, to wait, to unlock, and to look after others.

use std::sync::atomic::Ordering;
use std::time::Duration;

use distributed_lock_core::error::{LockError, LockResult};

use super::link::Link;
use super::session::{Session, column};
use super::sql::{self, Call, Form, Other, Span};
use crate::error::{classify, was_cancelled};
use crate::key::PostgresAdvisoryLockKey;

/// How a statement that blocks has ended.
#[derive(Debug)]
pub(crate) enum LockEnd {
    Locked,
    /// Nothing is held, and nothing is under way.
    Failed(LockError),
    /// Nobody knows what is held: the session is to be closed.
    Unknown(LockError),
}

/// What one session sees of another's wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// It waits for a lock.
    pub(crate) waits: bool,
    /// An index build, in this database or another, waits for old snapshots to end: since when, for the
    /// latest.
    pub(crate) snapshots_waited_for: Option<Duration>,
    /// More than three quarters of the server's connections are in use.
    pub(crate) is_crowded: bool,
}

impl Session {
    /// Prepares statements, so that [`try_lock`](Self::try_lock) and its unlock are one request each,
    /// sent as soon as they are polled. May be dropped: nothing is locked yet.
    pub(crate) async fn prepare_try(
        &self,
        key: PostgresAdvisoryLockKey,
        form: Form,
    ) -> LockResult<()> {
        if self.span == Span::Session {
            self.prepare(Call::Unlock, form, key).await?;
            self.prepare(Call::Try, form, key).await?;
        }
        Ok(())
    }

    /// Prepares the statement of [`probe`](Self::probe), in the same way.
    pub(crate) async fn prepare_probe(
        &self,
        key: PostgresAdvisoryLockKey,
        form: Form,
    ) -> LockResult<()> {
        if self.span == Span::Session {
            self.prepare(Call::Probe, form, key).await?;
        }
        Ok(())
    }

    /// Prepares statements for [`scan`](Self::scan), in the same way.
    pub(crate) async fn prepare_scan(&self) -> LockResult<()> {
        if self.span == Span::Session {
            self.other(Other::ReleasePermit).await?;
            self.prepare(Call::Unlock, Form::Exclusive, PostgresAdvisoryLockKey::Single(0)).await?;
            self.other(Other::Scan).await?;
        }
        Ok(())
    }

    /// Locks a key if it is free.
    pub(crate) async fn try_lock(
        &self,
        key: PostgresAdvisoryLockKey,
        form: Form,
    ) -> LockResult<bool> {
        if self.span == Span::Session {
            let answer = self.call(Call::Try, form, key).await;
            if answer.as_ref().is_err_and(was_cancelled) {
                // It may have been interrupted just when it had the lock.
                self.undo(self.unlock(key, form).await.map(drop));
            }
            return answer.map(|answer| answer == Some(true));
        }
        let lock = sql::literal(Call::Try, form, self.span, key);
        let locked = self.in_new_transaction(&lock).await?;
        if column(&locked, 0) == Some("t") {
            return Ok(true);
        }
        self.roll_back().await?;
        Ok(false)
    }

    /// Does what comes before [`lock`](Self::lock).
    pub(crate) async fn prepare_lock(
        &self,
        key: PostgresAdvisoryLockKey,
        form: Form,
    ) -> LockResult<()> {
        if self.span == Span::Session {
            return self.prepare(Call::Unlock, form, key).await.map(drop);
        }
        let begun = self.in_new_transaction(sql::BACKEND).await?;
        self.remember_backend(&begun);
        Ok(())
    }

    /// Undoes [`prepare_lock`](Self::prepare_lock).
    pub(crate) async fn leave_lock(&self) -> LockResult<()> {
        match self.span {
            Span::Session => Ok(()),
            Span::Transaction => self.roll_back().await,
        }
    }

    /// Waits for a key in the server's queue, after [`begin_blocking`](Self::begin_blocking).
    pub(crate) async fn lock(&self, key: PostgresAdvisoryLockKey, form: Form) -> LockEnd {
        self.link.set_blocked(true);
        let unblocked = Unblocked(&self.link);
        let result = match self.span {
            Span::Session => self.call(Call::Block, form, key).await.map(drop),
            Span::Transaction => {
                let lock = sql::literal(Call::Block, form, self.span, key);
                self.words(&lock).await.map(drop)
            }
        };
        drop(unblocked);
        self.end_blocking().await;
        let Err(error) = result else { return LockEnd::Locked };
        // The statement may have been interrupted just when it had the lock.
        match self.undo_lock(key, form).await {
            Ok(()) => LockEnd::Failed(error),
            Err(_) => LockEnd::Unknown(error),
        }
    }

    async fn undo_lock(&self, key: PostgresAdvisoryLockKey, form: Form) -> LockResult<()> {
        if self.span == Span::Session && self.checks_client.load(Ordering::Relaxed) {
            // What it depends on may have been set meanwhile.
            self.words(&sql::check_client()).await?;
        } else {
            self.nothing().await?;
        }
        match self.span {
            Span::Session => self.unlock(key, form).await.map(drop),
            Span::Transaction => self.roll_back().await,
        }
    }

    /// Unlocks a key; `false` if this session did not have it.
    pub(crate) async fn unlock(
        &self,
        key: PostgresAdvisoryLockKey,
        form: Form,
    ) -> LockResult<bool> {
        match self.span {
            Span::Session => {
                self.call(Call::Unlock, form, key).await.map(|answer| answer == Some(true))
            }
            Span::Transaction => self.roll_back().await.map(|()| true),
        }
    }

    /// Whether a key could be locked now, by a session that has no part in it.
    pub(crate) async fn probe(&self, key: PostgresAdvisoryLockKey, form: Form) -> LockResult<bool> {
        if self.span == Span::Session {
            return self.call(Call::Probe, form, key).await.map(|answer| answer == Some(true));
        }
        let lock = sql::literal(Call::Try, form, self.span, key);
        let probed = self.words(&format!("BEGIN; {lock}; ROLLBACK")).await?;
        Ok(column(&probed, 0) == Some("t"))
    }

    /// Locks the first of these keys that is free.
    pub(crate) async fn scan(&self, slots: &[i64]) -> LockResult<Option<i64>> {
        if self.span == Span::Session {
            let scan = self.other(Other::Scan).await?;
            let row = self.answer(self.client().query_opt(scan, &[&slots])).await;
            if row.as_ref().is_err_and(was_cancelled) {
                // As for a single key; which one it would be is not known.
                self.undo(self.unlock_all(slots).await);
            }
            return row?.map(|row| row.try_get(0)).transpose().map_err(classify);
        }
        let scanned = self.in_new_transaction(&sql::scan_in_transaction(slots)).await?;
        match column(&scanned, 0).and_then(|slot| slot.parse().ok()) {
            Some(slot) => Ok(Some(slot)),
            None => self.roll_back().await.map(|()| None),
        }
    }

    /// Unlocks a permit and notifies the waiter at the head of the queue; `false` if this session did
    /// not have it.
    pub(crate) async fn release_permit(&self, slot: i64, queue: i64) -> LockResult<bool> {
        if self.span == Span::Transaction {
            return self.roll_back().await.map(|()| true);
        }
        let release = self.other(Other::ReleasePermit).await?;
        let row = self.answer(self.client().query_one(release, &[&slot, &queue])).await;
        row?.try_get(0).map_err(classify)
    }

    /// Has the server notify this session of the releases of permits of the semaphore with this queue
    /// key, or of none any more.
    pub(crate) async fn listen(&self, queue: Option<i64>) -> LockResult<()> {
        self.link.listen_for(queue);
        let words = if queue.is_some() { sql::LISTEN } else { sql::UNLISTEN };
        self.words(words).await.map(drop)
    }

    /// Completes with the next notification of that semaphore; one that came before is not missed.
    pub(crate) async fn notified(&self) {
        self.link.notified.notified().await;
    }

    /// A round trip. Every earlier request has been answered when it returns.
    pub(crate) async fn nothing(&self) -> LockResult<()> {
        self.words("").await.map(drop)
    }

    /// What the server says of another session's wait; `None` if that session is gone there.
    pub(crate) async fn look_after(&self, waiting: &Session) -> LockResult<Option<Seen>> {
        let backend = waiting.backend.load(Ordering::Relaxed);
        let answers = self.words(&sql::look_after(backend)).await?;
        Ok(column(&answers, 0).map(|waits| Seen {
            waits: waits == "t",
            snapshots_waited_for: column(&answers, 1)
                .and_then(|seconds| seconds.parse().ok())
                .map(|seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default()),
            is_crowded: column(&answers, 2) == Some("t"),
        }))
    }

    /// Ends another session at the server.
    pub(crate) async fn terminate(&self, other: &Session) -> LockResult<()> {
        let backend = other.backend.load(Ordering::Relaxed);
        self.words(&sql::terminate(backend)).await.map(drop)
    }

    /// Frees these keys if this session has them.
    async fn unlock_all(&self, slots: &[i64]) -> LockResult<()> {
        let mut words = String::new();
        for slot in slots {
            let key = PostgresAdvisoryLockKey::Single(*slot);
            words.push_str(&sql::literal(Call::Unlock, Form::Exclusive, self.span, key));
            words.push(';');
        }
        self.words(&words).await.map(drop)
    }

    /// The end of a clean-up; without it the session would hold what nobody knows of.
    fn undo(&self, result: LockResult<()>) {
        if result.is_err() {
            self.close("what an interrupted statement has locked is not known");
        }
    }
}

/// The blocked statement has ended, or nobody waits for it any more.
struct Unblocked<'a>(&'a Link);

impl Drop for Unblocked<'_> {
    fn drop(&mut self) {
        self.0.set_blocked(false);
    }
}
