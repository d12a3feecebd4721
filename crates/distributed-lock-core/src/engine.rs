//! The engine: how a lock is acquired, held and given back, the same for every backend.
//!
//! An acquire runs in its caller's future. What it has at the backend belongs to a
//! [`PendingAcquire`], which withdraws it if the future is dropped at any await, or if the
//! [`Watchdog`] sees that its task does not poll it any more.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::background::{BoxFuture, Home, library_runtime, spawn_to_the_end};
use crate::claim::Claim;
use crate::clock::{Clock, Moment, SystemClock};
use crate::driver::{Attempt, Driver, Lease, LossReporter};
use crate::error::{AbandonedRelease, LockError, LockResult, NoAnswer};
use crate::guarantees::HoldEnds;
use crate::handle::Handle;
use crate::hold::{Hold, Holds};
use crate::instruments::{self, Instruments, WaitMark};
use crate::keeper::Keeper;
use crate::mode::Mode;
use crate::pending_acquire::PendingAcquire;
use crate::queue::{LocalQueue, WaitMode};
use crate::runtime::{require_io, require_timers};
use crate::timeout::Deadline;
use crate::timers::Timers;
use crate::watchdog::Watchdog;

/// How a provider's engine behaves, whatever the backend.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// How long one request to the backend may take. Default: 2 s.
    pub operation_timeout: Duration,
    /// Where renewals and other background work run. Default: on the runtime in use.
    pub home: Home,
    /// What leases are measured with. Default: the machine's clock.
    pub clock: Arc<dyn Clock>,
    /// How long a lease may be extended, from its first request. Default: as long as it is held.
    pub max_hold: Option<Duration>,
    /// Whether leases are extended at all. Default: they are.
    pub auto_extend: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            operation_timeout: Duration::from_secs(2),
            home: Home::CurrentRuntime,
            clock: Arc::new(SystemClock),
            max_hold: None,
            auto_extend: true,
        }
    }
}

impl Options {
    /// Sets how long one request to the backend may take.
    #[must_use]
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.operation_timeout = timeout;
        self
    }

    /// Keeps renewals on the library's own thread, so that a blocked runtime loses nothing.
    #[must_use]
    pub fn keeper_thread(mut self, on: bool) -> Self {
        self.home = if on { Home::LibraryThread } else { Home::CurrentRuntime };
        self
    }

    /// Sets what leases are measured with.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Ends every lease this long after its first request: it is not extended beyond, and its holder
    /// is told loss then, also while its last lease has time left at the server.
    #[must_use]
    pub fn max_hold(mut self, most: Duration) -> Self {
        self.max_hold = Some(most);
        self
    }

    /// Whether leases are extended while they are held; if not, each ends after its first term.
    #[must_use]
    pub fn auto_extend(mut self, on: bool) -> Self {
        self.auto_extend = on;
        self
    }

    /// The moment that a hold which began with this lease cannot pass.
    fn limit_of(&self, first: Lease) -> Moment {
        let most = self.max_hold.map_or(Moment::NEVER, |most| first.sent().after(most));
        if self.auto_extend { most } else { most.min(first.deadline()) }
    }
}

/// How often a clean-up is tried again after one fallback period; then the pauses grow, because the
/// service is away for longer.
const TRIES_AT_FALLBACK_PERIOD: u32 = 30;

/// The longest pause between two tries of a clean-up.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

pub(crate) struct Engine<D: Driver> {
    pub(crate) driver: D,
    pub(crate) options: Options,
    pub(crate) closing: CancellationToken,
    pub(crate) holds: Holds<D>,
    pub(crate) instruments: Arc<Instruments>,
    pub(crate) timers: Timers,
    queue: Arc<LocalQueue<D::Key>>,
    watchdog: Arc<Watchdog<D::Key>>,
    pub(crate) keeper: Keeper<D>,
    /// The process that made it.
    process: u32,
}

impl<D: Driver> Engine<D> {
    pub(crate) fn new(driver: D, options: Options) -> Arc<Self> {
        let timers = Timers::default();
        Arc::new_cyclic(|engine| Self {
            keeper: Keeper::new(options.home, engine.clone()),
            instruments: Instruments::new(driver.backend(), Arc::clone(&options.clock)),
            watchdog: Watchdog::new(options.operation_timeout, timers.clone()),
            driver,
            options,
            timers,
            closing: CancellationToken::new(),
            holds: Holds::new(),
            queue: LocalQueue::new(),
            process: std::process::id(),
        })
    }

    /// Makes one request of the driver, within the operation timeout.
    pub(crate) async fn request<T>(
        &self,
        request: impl Future<Output = LockResult<T>>,
    ) -> LockResult<T> {
        self.require_runtime()?;
        self.timers.bounded(self.options.operation_timeout, request).await
    }

    /// Whether this is a forked copy of the engine: its connections, files and threads are the other
    /// process's, so it must touch none of them.
    fn is_forked(&self) -> bool {
        self.process != std::process::id()
    }

    /// Whether the process and the runtime in use can do what the driver needs.
    fn require_runtime(&self) -> LockResult<()> {
        if self.is_forked() {
            return Err(LockError::Config(
                "this provider was built before the process was forked; build one after it".into(),
            ));
        }
        if self.driver.needs_runtime() { require_io().map(drop) } else { Ok(()) }
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.options.clock
    }

    /// Acquires by the deadline; `None` if others held or came first until then.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        name: &Arc<str>,
        key: &D::Key,
        mode: Mode,
        deadline: Deadline,
    ) -> LockResult<Option<Handle<D>>> {
        let wait_mode = if deadline.has_passed() { WaitMode::Tries } else { WaitMode::Waits };
        let acquiring = self.instruments.acquiring(name, mode);
        let (span, waiting) = (acquiring.span.clone(), &acquiring.waiting);
        // Instrumenting moves the future about, for nothing if nobody listens.
        let result = if span.is_disabled() {
            self.pursue(name, key, mode, (wait_mode, deadline), waiting).await
        } else {
            self.pursue(name, key, mode, (wait_mode, deadline), waiting).instrument(span).await
        };
        acquiring.ended(&result, wait_mode == WaitMode::Tries);
        result
    }

    async fn pursue(
        self: &Arc<Self>,
        name: &Arc<str>,
        key: &D::Key,
        mode: Mode,
        (wait_mode, deadline): (WaitMode, Deadline),
        waiting: &WaitMark,
    ) -> LockResult<Option<Handle<D>>> {
        self.require_runtime()?;
        loop {
            if self.closing.is_cancelled() {
                return Err(LockError::Cancelled);
            }
            let ticket = self.queue.join(key.clone(), mode, wait_mode);
            let claim = Arc::new(Claim::new(name, ticket, &self.instruments));
            let attempt = Attempt::new(key.clone(), mode, LossReporter(Arc::clone(&claim) as _));
            let pending = PendingAcquire::new(self, attempt, Arc::clone(&claim));
            let work = Box::pin(pending.run(wait_mode, deadline, waiting.clone()));
            // Abandoned because its task did not run for too long, it starts anew.
            if let Some(result) = self.watchdog.run(&claim, work).await {
                return result;
            }
        }
    }

    /// Turns a granted claim into a hold that the keeper looks after.
    pub(crate) fn hold(
        self: &Arc<Self>,
        hold: Hold<D>,
        lease: Option<Lease>,
    ) -> LockResult<Handle<D>> {
        let hold = Arc::new(hold);
        if let Some(lease) = lease {
            hold.claim.begin_lease(lease.deadline(), self.options.limit_of(lease));
        }
        hold.claim.becomes_a_hold();
        let handle = Handle::new(Arc::clone(self), Arc::clone(&hold));
        if !self.holds.insert(&hold) {
            return Err(LockError::Cancelled);
        }
        if let Some(lease) = lease
            && let Some(cadence) = self.driver.extension_cadence()
        {
            self.keeper.keep(&hold, lease, cadence);
        }
        Ok(handle)
    }

    /// Gives a lock back for its holder. Dropped half way, the background finishes it.
    pub(crate) async fn release(self: &Arc<Self>, hold: Arc<Hold<D>>) -> LockResult<()> {
        let span = self.instruments.releasing(hold.name(), hold.claim.ticket.mode());
        let result = if span.is_disabled() {
            self.let_go(hold).await
        } else {
            self.let_go(hold).instrument(span.clone()).await
        };
        instruments::released(&span, &result);
        result
    }

    async fn let_go(self: &Arc<Self>, hold: Arc<Hold<D>>) -> LockResult<()> {
        if self.is_forked() {
            self.give_back(hold);
            return self.require_runtime();
        }
        if let Err(reason) = hold.claim.close() {
            self.give_back(hold);
            return Err(LockError::LockLost(reason));
        }
        if !hold.start_leaving() {
            return Err(LockError::LockLost(hold.claim.loss_reason()));
        }
        self.forget_lease(&hold);
        hold.claim.ticket.ending();
        let work = Box::pin(Arc::clone(self).finish_release(Arc::clone(&hold)));
        let result = self.watchdog.run(&hold.claim, work).await;
        // Abandoned because its task did not run for too long, it is finished in the background.
        result.unwrap_or_else(|| Err(LockError::connection(AbandonedRelease)))
    }

    async fn finish_release(self: Arc<Self>, hold: Arc<Hold<D>>) -> LockResult<()> {
        let mut unfinished = Unfinished { engine: &self, hold: Some(&hold) };
        let result = self.request(self.driver.release(&hold.grant)).await;
        unfinished.hold = None;
        self.gave_back(&hold, &result);
        if result.as_ref().is_err_and(|error| !matches!(error, LockError::LockLost(_))) {
            self.keep_trying(Arc::clone(&hold));
        }
        result
    }

    /// Gives a lock back without anybody waiting for it: its handle was dropped, or it is lost and
    /// only its traces remain.
    pub(crate) fn give_back(self: &Arc<Self>, hold: Arc<Hold<D>>) {
        if self.is_forked() {
            // Not even dropped: it is the other process's lock.
            return std::mem::forget(hold);
        }
        // Closed or lost: either way nothing is signalled from here on.
        let _ = hold.claim.close();
        if !hold.start_leaving() {
            return;
        }
        self.forget_lease(&hold);
        match self.driver.release_now(&hold.grant) {
            Some(result) => self.gave_back(&hold, &result),
            None => {
                hold.claim.ticket.ending();
                self.keep_trying(hold);
            }
        }
    }

    fn forget_lease(&self, hold: &Hold<D>) {
        if self.driver.extension_cadence().is_some() {
            self.keeper.forget(hold.id());
        }
    }

    fn gave_back(self: &Arc<Self>, hold: &Hold<D>, result: &LockResult<()>) {
        hold.claim.ticket.leave();
        self.holds.finished(hold, result);
        if matches!(result, Ok(()) | Err(LockError::LockLost(_))) {
            self.undo_unanswered(hold);
        }
    }

    /// What the granted attempt has sent may arrive after the release, and would take the lock for
    /// nobody.
    fn undo_unanswered(self: &Arc<Self>, hold: &Hold<D>) {
        if let Some(attempt) = hold.take_unanswered() {
            self.withdraw_in_background(attempt, &hold.claim);
        }
    }

    fn keep_trying(self: &Arc<Self>, hold: Arc<Hold<D>>) {
        let engine = Arc::clone(self);
        spawn_to_the_end(self.options.home, move || {
            let (engine, hold) = (Arc::clone(&engine), Arc::clone(&hold));
            Box::pin(async move {
                let answered = |result: &LockResult<()>| engine.gave_back(&hold, result);
                let release = || Box::pin(engine.driver.release(&hold.grant)) as BoxFuture<'_, _>;
                let end = engine.lease_end();
                engine.persist(("release", hold.name()), end, release, answered).await;
                engine.undo_unanswered(&hold);
            })
        });
    }

    /// Gives up an attempt; what it may have left at the backend is undone in the background.
    pub(crate) fn withdraw(
        self: &Arc<Self>,
        attempt: Attempt<D::Key, D::Place>,
        claim: Arc<Claim<D::Key>>,
    ) {
        if self.is_forked() {
            return std::mem::forget((attempt, claim));
        }
        // No handle exists, so no loss is signalled.
        let _ = claim.close();
        if self.driver.must_withdraw(&attempt) {
            claim.ticket.ending();
            self.withdraw_in_background(attempt, &claim);
        } else {
            drop(attempt);
            claim.ticket.leave();
        }
    }

    fn withdraw_in_background(
        self: &Arc<Self>,
        attempt: Attempt<D::Key, D::Place>,
        claim: &Arc<Claim<D::Key>>,
    ) {
        self.holds.withdrawal_begins();
        // A request that arrives after its lease would have ended begins another one.
        let end = match self.driver.has_unanswered(&attempt) {
            true => Moment::NEVER,
            false => self.lease_end(),
        };
        let began = self.clock().now();
        let (engine, claim) = (Arc::clone(self), Arc::clone(claim));
        let attempt = Arc::new(tokio::sync::Mutex::new(attempt));
        let ended = Arc::new(Mutex::new(false));
        spawn_to_the_end(self.options.home, move || {
            let (engine, claim) = (Arc::clone(&engine), Arc::clone(&claim));
            let (attempt, ended) = (Arc::clone(&attempt), Arc::clone(&ended));
            Box::pin(async move {
                let answered = |result: &LockResult<()>| {
                    // Those that try now wait for the outcome, but not longer than one operation, and
                    // not for what is refused for good.
                    let waited = engine.clock().now().since(began);
                    let goes_on = result.as_ref().is_err_and(LockError::is_retryable);
                    if !goes_on || waited >= engine.options.operation_timeout {
                        claim.ticket.leave();
                    }
                };
                let withdraw = || {
                    let (engine, attempt) = (&engine, &attempt);
                    Box::pin(
                        async move { engine.driver.withdraw(&mut *attempt.lock().await).await },
                    ) as BoxFuture<'_, _>
                };
                engine.persist(("withdrawal", &claim.name), end, withdraw, answered).await;
                claim.ticket.leave();
                let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
                if !std::mem::replace(&mut *ended, true) {
                    engine.holds.withdrawal_ends();
                }
            })
        });
    }

    /// When a lease that was asked for by now has ended by itself.
    fn lease_end(&self) -> Moment {
        match self.driver.guarantees().hold_ends {
            HoldEnds::WithLease(lease) => self.clock().now().after(lease),
            HoldEnds::WithSession | HoldEnds::WithProcess => Moment::NEVER,
        }
    }

    /// Repeats a clean-up until it succeeds, the lock turns out to be another holder's, or `end`. A
    /// driver without leases ends the session when it cannot know.
    async fn persist<'a>(
        &self,
        (what, name): (&'static str, &str),
        end: Moment,
        mut operation: impl FnMut() -> BoxFuture<'a, LockResult<()>>,
        answered: impl Fn(&LockResult<()>),
    ) {
        let mut pause = self.driver.fallback_period();
        for tries in 1_u32.. {
            let limit = self.options.operation_timeout;
            let result = self.timers.bounded(limit, operation()).await;
            answered(&result);
            match result {
                Ok(()) | Err(LockError::LockLost(_)) => return,
                Err(error) if self.clock().now() >= end || self.closing.is_cancelled() => {
                    return tracing::warn!(lock = name, %error, "{what} failed for good");
                }
                Err(error) => tracing::debug!(lock = name, %error, "{what} will be tried again"),
            }
            if tries > TRIES_AT_FALLBACK_PERIOD {
                pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
            }
            tokio::select! {
                () = self.closing.cancelled() => {}
                () = self.timers.until(Instant::now().checked_add(pause)) => {}
            }
        }
    }

    /// See [`Provider::shutdown`](crate::traits::Provider::shutdown).
    pub(crate) async fn shutdown(self: &Arc<Self>) -> Vec<(String, LockError)> {
        self.closing.cancel();
        for hold in self.holds.close() {
            hold.claim.lose("the provider was shut down");
            self.give_back(hold);
        }
        let limit = self.options.operation_timeout.saturating_mul(2);
        let engine = Arc::clone(self);
        let ended = async move { engine.timers.bounded(limit, engine.everything_ended()).await };
        // What is left when the time is over is listed below.
        match require_timers() {
            Ok(_) => drop(ended.await),
            // The library thread is started only where the runtime in use cannot do it.
            Err(_) => match library_runtime() {
                Some(library) => drop(library.spawn(ended).await),
                None => drop(ended.await),
            },
        }
        self.driver.close();
        self.holds.failures(|| LockError::connection(NoAnswer(limit)))
    }

    async fn everything_ended(&self) -> LockResult<()> {
        self.holds.emptied().await;
        Ok(())
    }
}

/// A release whose future was dropped goes on in the background.
struct Unfinished<'a, D: Driver> {
    engine: &'a Arc<Engine<D>>,
    hold: Option<&'a Arc<Hold<D>>>,
}

impl<D: Driver> Drop for Unfinished<'_, D> {
    fn drop(&mut self) {
        if let Some(hold) = self.hold {
            self.engine.keep_trying(Arc::clone(hold));
        }
    }
}
