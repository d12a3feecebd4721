//! One connection, driven by whichever runtime uses it, and what is told when it ends.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use distributed_lock_core::CancellationToken;
use distributed_lock_core::driver::LossReporter;
use tokio::sync::Notify;
use tokio_postgres::{AsyncMessage, Client};

use super::target::Wire;

/// A connection and everybody who must know when it ends.
pub(super) struct Link {
    pub(super) client: Client,
    /// `None` when it has ended.
    wire: Mutex<Option<Wire>>,
    holders: Mutex<Holders>,
    /// The server has sent a notification that is listened for.
    pub(super) notified: Notify,
    /// The queue key that such a notification names.
    listens_for: Mutex<Option<i64>>,
    /// A runtime has stopped driving it; another goes on.
    let_go: Notify,
    /// A statement is under way that may take for ever, so that no answer means nothing.
    blocked: Mutex<bool>,
    gone: CancellationToken,
    /// Time between two keepalives, and for the answer to each.
    keepalive: Duration,
}

#[derive(Default)]
struct Holders {
    told: HashMap<u64, LossReporter>,
    next: u64,
    /// Why it has ended.
    end: Option<String>,
}

impl Link {
    pub(super) fn new((client, wire): (Client, Wire), keepalive: Duration) -> Self {
        Self {
            client,
            wire: Mutex::new(Some(wire)),
            holders: Mutex::default(),
            notified: Notify::new(),
            listens_for: Mutex::new(None),
            let_go: Notify::new(),
            blocked: Mutex::new(false),
            gone: CancellationToken::new(),
            keepalive,
        }
    }

    /// Runs the connection until it ends. May be dropped and called again, on any runtime.
    pub(super) async fn drive(self: Arc<Self>) {
        let _let_go = LetGo(&self);
        let mut keepalive = pin!(self.keep_alive());
        let reason = loop {
            tokio::select! {
                biased;
                reason = poll_fn(|context| self.poll_wire(context)) => break reason,
                () = self.let_go.notified() => {}
                () = self.gone.cancelled() => return,
                reason = &mut keepalive => break reason,
            }
        };
        self.end(&reason);
    }

    /// Completes with the reason for the end.
    fn poll_wire(&self, context: &mut Context<'_>) -> Poll<String> {
        let mut wire = lock(&self.wire);
        let Some(open) = wire.as_mut() else { return Poll::Ready("it was closed".into()) };
        loop {
            match std::task::ready!(open.poll_message(context)) {
                Some(Ok(AsyncMessage::Notification(notification))) => {
                    let queue = notification.payload().parse().ok();
                    if queue.is_some() && queue == *lock(&self.listens_for) {
                        self.notified.notify_one();
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(reason_of(&error)),
                None => return Poll::Ready("the server closed it".into()),
            }
        }
    }

    /// Asks for a sign of life now and then; completes when there is none.
    async fn keep_alive(&self) -> String {
        loop {
            tokio::time::sleep(self.keepalive).await;
            let mut request = pin!(self.client.batch_execute(""));
            // Behind a blocked statement no answer means nothing, so nothing is asked.
            let asked = poll_fn(|context| {
                let blocked = lock(&self.blocked);
                Poll::Ready((!*blocked).then(|| request.as_mut().poll(context)))
            });
            let answer = match asked.await {
                None => continue,
                Some(Poll::Ready(answer)) => Ok(answer),
                Some(Poll::Pending) => tokio::time::timeout(self.keepalive, request).await,
            };
            match answer {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return reason_of(&error),
                Err(_) => return format!("no sign of life within {:?}", self.keepalive),
            }
        }
    }

    /// Says which semaphore's notifications are not to be ignored.
    pub(super) fn listen_for(&self, queue: Option<i64>) {
        *lock(&self.listens_for) = queue;
    }

    /// Says whether a statement is under way that may take for ever.
    pub(super) fn set_blocked(&self, blocked: bool) {
        *lock(&self.blocked) = blocked;
    }

    /// Ends it at once and tells everybody who holds something by it.
    pub(super) fn end(&self, reason: &str) {
        let told = {
            let mut holders = lock(&self.holders);
            if holders.end.is_none() {
                holders.end = Some(reason.to_owned());
            }
            std::mem::take(&mut holders.told)
        };
        for holder in told.into_values() {
            holder.lost(format!("the session with the server ended: {reason}"));
        }
        self.gone.cancel();
        // Requests fail after their holders were told.
        let wire = lock(&self.wire).take();
        drop(wire);
    }

    pub(super) async fn until_the_end(&self) {
        self.gone.cancelled().await;
    }

    /// Why it has ended, if it has.
    pub(super) fn ended(&self) -> Option<String> {
        lock(&self.holders).end.clone()
    }

    pub(super) fn is_alive(&self) -> bool {
        lock(&self.holders).end.is_none()
    }

    /// Adds a holder that is told of the end; `None` if it has ended already.
    pub(super) fn tell(&self, holder: &LossReporter) -> Option<u64> {
        let mut holders = lock(&self.holders);
        if holders.end.is_some() {
            return None;
        }
        let id = holders.next;
        holders.next += 1;
        holders.told.insert(id, holder.clone());
        Some(id)
    }

    pub(super) fn forget(&self, id: u64) {
        lock(&self.holders).told.remove(&id);
    }
}

/// Whoever drives it next must poll it anew: its last waker has gone with the one before.
struct LetGo<'a>(&'a Link);

impl Drop for LetGo<'_> {
    fn drop(&mut self) {
        self.0.let_go.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The server's own words where there are any.
fn reason_of(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(refusal), _) => refusal.message().to_owned(),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}
