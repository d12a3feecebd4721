//! How sessions are opened: in the background, so that nobody depends on a task that does not run.

use std::sync::{Arc, Mutex, PoisonError};

use distributed_lock_core::background::{BoxFuture, spawn_to_the_end};
use distributed_lock_core::error::{LockError, LockResult};
use tokio::sync::{Notify, oneshot, watch};

use super::limit::within;
use super::session::Session;
use super::sessions::{Retirement, Sessions};
use super::slot::Reserved;
use crate::error::NoConnection;

/// A session that is being opened for all who need one. Its sender is gone when that has ended.
#[derive(Clone)]
pub(super) struct Opening(pub(super) watch::Receiver<()>);

/// A session that was just opened.
pub(super) struct Opened {
    pub(super) session: Arc<Session>,
    /// Wakes the task that closes it when it is not needed.
    pub(super) changed: Arc<Notify>,
}

/// What a call has to do with an opening for all.
pub(super) enum Joined {
    /// It waits for the end of this one.
    UnderWay(Opening),
    /// It begins one, which ends when this is dropped.
    First(watch::Sender<()>),
}

impl Opening {
    pub(super) fn is_under_way(&self) -> bool {
        self.0.has_changed().is_ok()
    }

    pub(super) async fn ended(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

/// For whom a session is opened.
enum Order {
    /// If the call was given up, the session is idle.
    ForOne(oneshot::Sender<LockResult<Reserved>>),
    /// The session is idle, and all look for one again. The first of them gets the error.
    ForAll(oneshot::Sender<LockResult<()>>, watch::Sender<()>),
}

impl Order {
    fn fulfil(self, session: LockResult<Reserved>) {
        match self {
            Self::ForOne(answer) => drop(answer.send(session)),
            Self::ForAll(first, all) => {
                // A reserved session that is dropped is idle.
                let result = session.map(drop);
                drop(all);
                // Given up: the others find the session, or ask for themselves.
                let _ = first.send(result);
            }
        }
    }
}

impl Sessions {
    /// Connects, within the operation timeout, for one owner.
    ///
    /// # Cancel safety
    /// The connection is made to the end, and is then idle.
    pub(super) async fn open(self: &Arc<Self>) -> LockResult<Reserved> {
        let (answer, answered) = oneshot::channel();
        self.order(Connecting::begin(self)?, Order::ForOne(answer));
        answered.await.unwrap_or_else(|_| Err(self.not_connected()))
    }

    /// Connects for all who share a session, or waits while that is under way: it is worth looking for
    /// one again.
    ///
    /// # Cancel safety
    /// As that of [`open`](Self::open).
    pub(super) async fn open_for_all(self: &Arc<Self>) -> LockResult<()> {
        let all = match self.join_opening()? {
            Joined::UnderWay(opening) => {
                opening.ended().await;
                return Ok(());
            }
            Joined::First(all) => all,
        };
        let (first, answered) = oneshot::channel();
        self.order(Connecting::begin(self)?, Order::ForAll(first, all));
        answered.await.unwrap_or_else(|_| Err(self.not_connected()))
    }

    fn not_connected(&self) -> LockError {
        LockError::connection(NoConnection(self.limits().operation_timeout))
    }

    /// Has a session opened in the background.
    fn order(self: &Arc<Self>, connecting: Connecting, order: Order) {
        let order = Arc::new(Mutex::new(Some((order, connecting))));
        let sessions = Arc::downgrade(self);
        spawn_to_the_end(self.options().home, move || {
            let (order, sessions) = (Arc::clone(&order), sessions.clone());
            Box::pin(async move {
                let Some(sessions) = sessions.upgrade() else { return };
                let opened = sessions.connected().await;
                let order = order.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some((order, connecting)) = order {
                    let session = opened.and_then(|opened| sessions.add(opened));
                    drop(connecting);
                    order.fulfil(session);
                }
            })
        });
    }

    async fn connected(self: &Arc<Self>) -> LockResult<Opened> {
        let sessions = Arc::downgrade(self);
        let changed = Arc::new(Notify::new());
        let look_again = Arc::clone(&changed);
        let retire = move |id| -> BoxFuture<'static, ()> {
            let (sessions, changed) = (sessions.clone(), Arc::clone(&look_again));
            Box::pin(async move {
                loop {
                    let change = changed.notified();
                    // Not kept while it waits: that would keep all sessions open.
                    let retirement = sessions.upgrade().map(|sessions| sessions.retire(id));
                    match retirement {
                        None | Some(Retirement::Closed) => return,
                        Some(Retirement::WhenChanged) => change.await,
                        Some(Retirement::At(at)) => {
                            tokio::select! {
                                () = change => {}
                                () = tokio::time::sleep_until(at) => {}
                            }
                        }
                    }
                }
            })
        };
        // Boxed: rare, and much larger than everything else that an acquire is made of.
        let session = Box::pin(Session::open(self.target(), self.options(), retire));
        let limit = self.limits().operation_timeout;
        let opened = within(limit, session).await;
        let session = opened.ok_or_else(|| LockError::connection(NoConnection(limit)))??;
        Ok(Opened { session, changed })
    }
}

/// A connection that is being made, which counts as a session.
struct Connecting(Arc<Sessions>);

impl Connecting {
    fn begin(sessions: &Arc<Sessions>) -> LockResult<Self> {
        sessions.begin_connecting()?;
        Ok(Self(Arc::clone(sessions)))
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.0.end_connecting();
    }
}
