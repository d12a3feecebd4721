//! Holds, and the list of all of a provider.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use crate::claim::Claim;
use crate::driver::{Attempt, Driver};
use crate::error::{LockError, LockResult};
use crate::token::FencingToken;

/// An attempt of which requests may still arrive.
type Unanswered<D> = Attempt<<D as Driver>::Key, <D as Driver>::Place>;

/// A lock that was granted and not yet given back.
pub(crate) struct Hold<D: Driver> {
    pub(crate) claim: Arc<Claim<D::Key>>,
    pub(crate) grant: D::Grant,
    pub(crate) token: OnceLock<FencingToken>,
    /// The attempt that was granted, if requests of it may still arrive; taken by the release.
    unanswered: Mutex<Option<Box<Unanswered<D>>>>,
    /// A release is under way or done.
    leaving: AtomicBool,
}

impl<D: Driver> Hold<D> {
    pub(crate) fn new(
        claim: Arc<Claim<D::Key>>,
        grant: D::Grant,
        unanswered: Option<Unanswered<D>>,
    ) -> Self {
        let (token, leaving) = (OnceLock::new(), AtomicBool::new(false));
        let unanswered = Mutex::new(unanswered.map(Box::new));
        Self { claim, grant, token, unanswered, leaving }
    }

    /// The attempt that was granted, if requests of it may still arrive: once, after the release.
    pub(crate) fn take_unanswered(&self) -> Option<Unanswered<D>> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).take().map(|boxed| *boxed)
    }

    pub(crate) fn id(&self) -> u64 {
        self.claim.ticket.id()
    }

    pub(crate) fn name(&self) -> &str {
        &self.claim.name
    }

    /// `true` for exactly one caller, who then has to give the lock back.
    pub(crate) fn start_leaving(&self) -> bool {
        !self.leaving.swap(true, Ordering::SeqCst)
    }
}

/// Everything of a provider that a shutdown must end.
pub(crate) struct Holds<D: Driver> {
    state: Mutex<State<D>>,
    changed: Notify,
}

struct State<D: Driver> {
    holds: HashMap<u64, Arc<Hold<D>>>,
    withdrawals: usize,
    closed: bool,
    failures: Vec<(String, LockError)>,
}

impl<D: Driver> Holds<D> {
    pub(crate) fn new() -> Self {
        let state =
            State { holds: HashMap::new(), withdrawals: 0, closed: false, failures: Vec::new() };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// Adds a hold; `false` after [`close`](Self::close).
    pub(crate) fn insert(&self, hold: &Arc<Hold<D>>) -> bool {
        let mut state = self.lock();
        state.holds.insert(hold.id(), Arc::clone(hold));
        !state.closed
    }

    /// The hold was given back, or that failed.
    pub(crate) fn finished(&self, hold: &Hold<D>, result: &LockResult<()>) {
        let mut state = self.lock();
        if state.holds.remove(&hold.id()).is_some() && state.closed {
            match result {
                // A lost lock needs no release.
                Ok(()) | Err(LockError::LockLost(_)) => {}
                Err(error) => state.failures.push((hold.name().to_owned(), error.retold())),
            }
            self.changed.notify_waiters();
        }
    }

    pub(crate) fn withdrawal_begins(&self) {
        self.lock().withdrawals += 1;
    }

    pub(crate) fn withdrawal_ends(&self) {
        self.lock().withdrawals -= 1;
        self.changed.notify_waiters();
    }

    /// From now on nothing is added; returns what is there.
    pub(crate) fn close(&self) -> Vec<Arc<Hold<D>>> {
        let mut state = self.lock();
        state.closed = true;
        state.holds.values().cloned().collect()
    }

    /// Completes when nothing is left.
    pub(crate) async fn emptied(&self) {
        loop {
            let changed = self.changed.notified();
            {
                let state = self.lock();
                if state.holds.is_empty() && state.withdrawals == 0 {
                    return;
                }
            }
            changed.await;
        }
    }

    /// What failed since [`close`](Self::close), and what is left with this reason.
    pub(crate) fn failures(&self, left: impl Fn() -> LockError) -> Vec<(String, LockError)> {
        let mut state = self.lock();
        let mut failures = std::mem::take(&mut state.failures);
        failures.extend(state.holds.values().map(|hold| (hold.name().to_owned(), left())));
        failures
    }

    fn lock(&self) -> MutexGuard<'_, State<D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LockError {
    /// The same kind of error for a second listener, its source as text.
    fn retold(&self) -> Self {
        let text = || self.chain();
        match self {
            Self::Timeout(duration) => Self::Timeout(*duration),
            Self::Cancelled => Self::Cancelled,
            Self::Deadlock(reason) => Self::Deadlock(reason.clone()),
            Self::Connection(_) => Self::connection(text()),
            Self::LockLost(reason) => Self::LockLost(reason.clone()),
            Self::InvalidName(reason) => Self::InvalidName(reason.clone()),
            Self::Backend(_) if self.is_retryable() => Self::transient(text()),
            Self::Backend(_) => Self::backend(text()),
            Self::Config(reason) => Self::Config(reason.clone()),
            Self::Unsupported(reason) => Self::Unsupported(reason.clone()),
        }
    }
}
