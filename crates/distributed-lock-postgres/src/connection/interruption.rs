//! How a statement that blocks is ended: by `pg_cancel_backend` from a session beside it, or by the
//! cancel protocol, read to its end.
//!
//! The protocol needs no privilege, unlike `pg_cancel_backend`, which a login role that becomes another
//! role may not call for its own sessions. It needs no session either, where the server has none left. But
//! each use is a connection, and pgbouncer 1.18 can crash by it ("bad client state"); so it comes second.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use distributed_lock_core::background::spawn_to_the_end;
use distributed_lock_core::error::{LockError, LockResult, NoAnswer};
use tokio::time::Instant;

use super::limit::within;
use super::session::{Session, column};
use super::sessions::Sessions;
use super::sql;

/// How long a cancelled statement may take to end before it is cancelled once more: a cancellation that
/// comes before its statement has no effect. It doubles each time, up to the second.
const CANCEL_AGAIN: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(500)];

impl Session {
    /// A statement begins that may block, and be interrupted.
    pub(crate) async fn begin_blocking(&self) {
        let mut blocks = self.blocks.lock().await;
        self.statement.fetch_add(1, Ordering::SeqCst);
        *blocks = true;
    }

    /// It has ended. No cancellation is under way when this returns, so none hits a later statement.
    pub(crate) async fn end_blocking(&self) {
        *self.blocks.lock().await = false;
    }

    /// Cancels the statement with this number that blocks; `false` if it is not under way. It has had its
    /// effect, if any, when this returns. Dropped or failed, the session is closed: the effect may come
    /// later.
    async fn cancel_blocked(&self, sessions: &Arc<Sessions>, statement: u64) -> LockResult<bool> {
        let blocks = self.blocks.lock().await;
        let is_this = statement == self.statement.load(Ordering::Acquire);
        if !*blocks || !is_this || !self.is_alive() {
            return Ok(false);
        }
        let mut doubt = InDoubt { session: self, is_known: false };
        if !self.cancel_from_beside(sessions).await {
            sessions.target().cancel(&self.link.client.cancel_token()).await?;
        }
        doubt.is_known = true;
        Ok(true)
    }

    /// `false` if there is no session beside this one, or its role may not interrupt this one.
    async fn cancel_from_beside(&self, sessions: &Arc<Sessions>) -> bool {
        let Ok(beside) = sessions.beside(Some(self)).await else { return false };
        let statement = sql::cancel_wait(self.backend.load(Ordering::Relaxed));
        let Ok(answers) = beside.words(&statement).await else { return false };
        // No answer: the server no longer knows the session.
        column(&answers, 1).is_none_or(|may| may == "t")
    }

    /// Whether it was dropped while a statement blocked.
    fn may_be_blocked(&self) -> bool {
        self.blocks.try_lock().is_ok_and(|blocks| *blocks)
    }
}

/// A cancellation on its way.
struct InDoubt<'a> {
    session: &'a Session,
    is_known: bool,
}

impl Drop for InDoubt<'_> {
    fn drop(&mut self) {
        if !self.is_known {
            self.session.close("its wait could not be cancelled");
        }
    }
}

/// Interrupts the statement that blocks in a session until it has ended, in the background. If that
/// takes longer than the operation timeout, the session is closed.
pub(crate) fn interrupt(sessions: &Arc<Sessions>, session: &Arc<Session>) {
    let (limit, began) = (sessions.limits().operation_timeout, Instant::now());
    // The session may run another statement for another wait soon.
    let statement = session.statement.load(Ordering::SeqCst);
    let (home, sessions, session) =
        (sessions.options().home, Arc::clone(sessions), Arc::clone(session));
    spawn_to_the_end(home, move || {
        let (sessions, session) = (Arc::clone(&sessions), Arc::clone(&session));
        Box::pin(async move {
            let [mut pause, longest] = CANCEL_AGAIN;
            loop {
                match within(limit, session.cancel_blocked(&sessions, statement)).await {
                    Some(Ok(true)) if began.elapsed() < limit => {}
                    Some(Ok(false)) => return,
                    Some(Ok(true) | Err(_)) | None => {
                        return session.close("its wait could not be cancelled");
                    }
                }
                tokio::time::sleep(pause).await;
                pause = longest.min(pause * 2);
            }
        })
    });
}

/// Ends what the server may still run for a session that was closed: it would notice that its client is
/// gone later, and wait until then.
pub(super) fn interrupt_closed(sessions: &Sessions, session: &Arc<Session>) {
    if !session.may_be_blocked() {
        return;
    }
    let limit = sessions.limits().operation_timeout;
    let (target, token) = (sessions.target().clone(), session.link.client.cancel_token());
    spawn_to_the_end(sessions.options().home, move || {
        let (target, token) = (target.clone(), token.clone());
        Box::pin(async move {
            let no_answer = || Err(LockError::connection(NoAnswer(limit)));
            let result = within(limit, target.cancel(&token)).await.unwrap_or_else(no_answer);
            if let Err(error) = result {
                tracing::debug!(%error, "a wait that was given up ends when the server misses us");
            }
        })
    });
}
