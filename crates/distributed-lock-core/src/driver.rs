//! What a backend implements: one resource, asked for in any [`Mode`], one request at a time.
//!
//! The engine in this crate does what is the same everywhere: the local queue, deadlines, retries,
//! renewal, loss, releases of dropped handles. A driver only says how its server or file system does
//! each single step, and leaves deadlines and repeats to the engine; each of its futures may be
//! dropped at any await.

use std::fmt::{self, Debug, Display};
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use crate::clock::Moment;
use crate::error::{LockError, LockResult};
use crate::guarantees::Guarantees;
use crate::holder::Holder;
use crate::lock_name::LockName;
use crate::mode::Mode;
use crate::token::{AttemptToken, FencingToken};

/// A backend. See the [module's documentation](self) for what it must not do.
pub trait Driver: Send + Sync + Sized + 'static {
    /// What the backend calls a resource: equal keys are one resource. [`Mode::Exclusive`] and
    /// [`Mode::Shared`] of a name have the same key, [`Mode::Permit`] another.
    type Key: Clone + Debug + Display + Eq + Hash + Send + Sync + 'static;
    /// What an attempt has at the backend before it is granted: an open file, a place in a queue.
    type Place: Default + Send + Sync + 'static;
    /// What a held lock needs for its extension and release.
    type Grant: Send + Sync + 'static;

    /// Turns a name into the backend's key, without I/O.
    ///
    /// # Errors
    /// [`LockError::InvalidName`], or [`LockError::Unsupported`] for a mode that cannot be had.
    fn resolve(&self, name: LockName<'_>, mode: Mode) -> LockResult<Self::Key>;

    /// Asks once. `None`: somebody holds it or comes first. The engine bounds it by the operation
    /// timeout and calls it again on the same attempt whenever [`wait`](Self::wait) says so or the
    /// fallback period is over, also after it failed or was dropped: what an earlier request of the
    /// same attempt has taken without an answer is its own, not somebody else's.
    fn try_acquire(
        &self,
        attempt: &mut Attempt<Self::Key, Self::Place>,
    ) -> impl Future<Output = LockResult<Option<Granted<Self::Grant>>>> + Send;

    /// Waits until the attempt is granted or it is worth asking again. Only called after a try was
    /// refused; called again after each retry. What it has reached when it is dropped stays in the
    /// attempt's place, so that nothing is missed between two calls.
    fn wait(
        &self,
        attempt: &mut Attempt<Self::Key, Self::Place>,
    ) -> impl Future<Output = LockResult<WakeUp<Self::Grant>>> + Send;

    /// Whether an attempt that is given up may have left something at the backend, a grant that
    /// crosses the cancellation included. If not, dropping its place is enough. May be asked from any
    /// thread: a task that does not run any more does not withdraw its own attempt.
    fn must_withdraw(&self, attempt: &Attempt<Self::Key, Self::Place>) -> bool;

    /// Whether requests of an attempt that was granted may still arrive at the backend, or have their
    /// answers on the way: one that timed out or was dropped, a duplicate, one on a connection that was
    /// left. The attempt then stays with its hold, and [`withdraw`](Self::withdraw) follows the release.
    fn has_unanswered(&self, attempt: &Attempt<Self::Key, Self::Place>) -> bool {
        let _ = attempt;
        false
    }

    /// Undoes an attempt that was given up at any point, a grant on its way included. May be called
    /// again after it was dropped or failed. A driver that cannot tell what became of the attempt
    /// closes the connection.
    fn withdraw(
        &self,
        attempt: &mut Attempt<Self::Key, Self::Place>,
    ) -> impl Future<Output = LockResult<()>> + Send {
        let _ = attempt;
        std::future::ready(Ok(()))
    }

    /// Extends leases, all in as few requests as the backend allows; one outcome for each grant, in
    /// order. Only called if there is an [`extension_cadence`](Self::extension_cadence).
    fn extend(
        &self,
        grants: &[&Self::Grant],
    ) -> impl Future<Output = LockResult<Vec<Extension>>> + Send {
        let _ = grants;
        std::future::ready(Err(LockError::Unsupported("no leases here".into())))
    }

    /// Gives the lock back, never anybody else's. May be called again after it was dropped or
    /// failed.
    fn release(&self, grant: &Self::Grant) -> impl Future<Output = LockResult<()>> + Send;

    /// Gives the lock back without waiting for anything, where the backend can: a dropped handle
    /// then needs no task.
    fn release_now(&self, grant: &Self::Grant) -> Option<LockResult<()>> {
        let _ = grant;
        None
    }

    /// Closes what the driver keeps open. Called at the end of a shutdown: what could be given back was,
    /// and nothing is acquired any more, although clones of the provider may live on.
    fn close(&self) {}

    /// Draws the token of a held lock, in one step that fails if the lock is no longer held.
    fn fencing_token(
        &self,
        grant: &Self::Grant,
    ) -> impl Future<Output = LockResult<FencingToken>> + Send;

    /// Whether requests need a tokio runtime with timers and I/O: in any other the engine refuses them as
    /// [`LockError::Config`]. Default: they do. Waiting needs timers in any case.
    fn needs_runtime(&self) -> bool {
        true
    }

    /// What metrics and traces call this backend: one lower-case word.
    fn backend(&self) -> &'static str {
        "custom"
    }

    /// What this driver promises with its options.
    fn guarantees(&self) -> Guarantees;

    /// How long a waiter relies on its wake-up before it asks again.
    fn fallback_period(&self) -> Duration;

    /// How often leases are extended; `None` where there are none.
    fn extension_cadence(&self) -> Option<Duration> {
        None
    }

    /// Who holds a resource, as far as the backend knows, for people who wait.
    fn holder(&self, key: &Self::Key) -> impl Future<Output = LockResult<Option<Holder>>> + Send {
        let _ = key;
        std::future::ready(Ok(None))
    }

    /// A descriptor that keeps the lock held while any process has it open.
    ///
    /// # Errors
    /// [`LockError::Backend`] if it cannot be duplicated.
    #[cfg(unix)]
    fn keep_alive_fd(&self, grant: &Self::Grant) -> LockResult<Option<std::os::fd::OwnedFd>> {
        let _ = grant;
        Ok(None)
    }
}

/// One attempt at a lock, from its first request to its grant or withdrawal.
#[derive(Debug)]
pub struct Attempt<K, P> {
    /// What is asked for.
    pub key: K,
    /// How it is asked for.
    pub mode: Mode,
    /// What the driver has at the backend so far.
    pub place: P,
    /// Tells the holder that the lock is gone, once it holds; keep a clone with the grant.
    pub loss: LossReporter,
    token: OnceLock<AttemptToken>,
}

impl<K, P: Default> Attempt<K, P> {
    /// An attempt that has sent nothing yet. The engine makes them; a driver's own tests do, too.
    pub fn new(key: K, mode: Mode, loss: LossReporter) -> Self {
        Self { key, mode, place: P::default(), loss, token: OnceLock::new() }
    }
}

impl<K, P> Attempt<K, P> {
    /// The attempt's own random token, drawn on first use.
    ///
    /// # Errors
    /// [`LockError::Backend`] if the operating system has no randomness to give.
    pub fn token(&self) -> LockResult<AttemptToken> {
        if let Some(token) = self.token.get() {
            return Ok(*token);
        }
        let token = AttemptToken::random()?;
        Ok(*self.token.get_or_init(|| token))
    }
}

/// A lock that was granted.
#[derive(Debug)]
#[non_exhaustive]
pub struct Granted<G> {
    /// What extension and release need.
    pub grant: G,
    /// The lease, where there is one.
    pub lease: Option<Lease>,
    /// The fencing token, where the grant brings it.
    pub token: Option<FencingToken>,
}

impl<G> Granted<G> {
    /// A grant that lasts as long as its session, file or process.
    pub fn lasting(grant: G) -> Self {
        Self { grant, lease: None, token: None }
    }

    /// A grant that must be extended.
    pub fn leased(grant: G, lease: Lease) -> Self {
        Self { grant, lease: Some(lease), token: None }
    }

    /// Adds the fencing token that came with the grant.
    #[must_use]
    pub fn with_token(mut self, token: FencingToken) -> Self {
        self.token = Some(token);
        self
    }
}

/// A lease: it counts from before its request was sent, because the server's time began no earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    sent: Moment,
    validity: Duration,
}

impl Lease {
    /// A lease of `validity` that was asked for at `sent`, read before the request left.
    #[must_use]
    pub fn from_request(sent: Moment, validity: Duration) -> Self {
        Self { sent, validity }
    }

    /// When its request was sent.
    #[must_use]
    pub fn sent(&self) -> Moment {
        self.sent
    }

    /// The moment from which the holder may no longer rely on it.
    #[must_use]
    pub fn deadline(&self) -> Moment {
        self.sent.after(self.validity)
    }
}

/// How a wait ended.
#[derive(Debug)]
pub enum WakeUp<G> {
    /// With the lock.
    Granted(Granted<G>),
    /// With a reason to ask again.
    TryAgain,
}

/// What became of one extension.
#[derive(Debug)]
pub enum Extension {
    /// The server has extended it.
    Extended(Lease),
    /// The server says that the lock is no longer this holder's; the text says how.
    Refused(String),
    /// Nobody can say; it is tried again until the lease runs out.
    Unknown(LockError),
}

/// Tells a holder that its lock is gone. May be called from any thread, any number of times; after
/// a clean release it does nothing.
#[derive(Clone)]
pub struct LossReporter(pub(crate) Arc<dyn ReportLoss>);

pub(crate) trait ReportLoss: Send + Sync {
    fn report(&self, reason: String);
}

impl<F: Fn(String) + Send + Sync> ReportLoss for F {
    fn report(&self, reason: String) {
        self(reason);
    }
}

impl LossReporter {
    /// A reporter that calls a function, for a driver's own tests.
    pub fn from_fn(report: impl Fn(String) + Send + Sync + 'static) -> Self {
        Self(Arc::new(report))
    }

    /// The lock is gone, and this is why.
    pub fn lost(&self, reason: impl Into<String>) {
        self.0.report(reason.into());
    }
}

impl Debug for LossReporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LossReporter")
    }
}
