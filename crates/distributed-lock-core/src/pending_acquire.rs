//! One acquire on its way from the local queue to its grant.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::claim::Claim;
use crate::driver::{Attempt, Driver, Granted, WakeUp};
use crate::engine::Engine;
use crate::error::{LateGrant, LockError, LockResult};
use crate::handle::Handle;
use crate::hold::Hold;
use crate::instruments::WaitMark;
use crate::queue::WaitMode;
use crate::timeout::{Deadline, require_runtime};

/// An attempt and its claim; dropped before its grant, it is withdrawn.
pub(crate) struct PendingAcquire<D: Driver> {
    engine: Arc<Engine<D>>,
    /// Taken by the grant or the withdrawal.
    open: Option<Open<D>>,
}

struct Open<D: Driver> {
    attempt: Attempt<D::Key, D::Place>,
    claim: Arc<Claim<D::Key>>,
}

/// When to look again after a wake-up that brought nothing, once: the kernel reports the closing of a dead
/// process's files a moment before it frees their locks.
const SECOND_LOOK: Duration = Duration::from_millis(50);

/// Why a wait at the server was interrupted.
enum Interruption<G> {
    WokenUp(LockResult<WakeUp<G>>),
    FallbackPeriod,
    Deadline,
}

impl<D: Driver> PendingAcquire<D> {
    pub(crate) fn new(
        engine: &Arc<Engine<D>>,
        attempt: Attempt<D::Key, D::Place>,
        claim: Arc<Claim<D::Key>>,
    ) -> Self {
        Self { engine: Arc::clone(engine), open: Some(Open { attempt, claim }) }
    }

    /// Acquires by the deadline; `None` if others held or came first until then.
    ///
    /// A caller that has begun to wait, at the server or behind others of its own process, goes on
    /// until its deadline though the server is away for a while. A newcomer gets the error.
    pub(crate) async fn run(
        mut self,
        wait_mode: WaitMode,
        deadline: Deadline,
        waiting: WaitMark,
    ) -> LockResult<Option<Handle<D>>> {
        let mut has_waited = false;
        loop {
            if wait_mode == WaitMode::Waits && self.must_queue() {
                has_waited = true;
                waiting.set();
            }
            if !self.admitted(deadline).await? {
                return Ok(None);
            }
            let refused = match self.try_once(deadline).await {
                Ok(Some(handle)) => return Ok(Some(handle)),
                Ok(None) => None,
                Err(error) if has_waited && self.outlasts(&error) => Some(error),
                Err(error) => return Err(error),
            };
            if deadline.has_passed() {
                return refused.map_or(Ok(None), Err);
            }
            require_runtime()?;
            has_waited = true;
            waiting.set();
            if self.waits_at_server() {
                return self.wait(deadline, refused.is_some()).await;
            }
        }
    }

    /// Whether it must wait in the local queue, as far as is known.
    fn must_queue(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.claim.ticket.decision().is_none())
    }

    /// Whether a wait goes on after this error. A grant that came too late has used up the attempt.
    fn outlasts(&self, error: &LockError) -> bool {
        self.open.is_some() && error.is_retryable()
    }

    /// Waits in the local queue: `true` when it is this acquire's turn, `false` when the deadline has
    /// passed and others come first.
    async fn admitted(&self, deadline: Deadline) -> LockResult<bool> {
        let Some(Open { claim, .. }) = &self.open else { return Ok(false) };
        if let Some(decision) = claim.ticket.decision() {
            return Ok(decision);
        }
        require_runtime()?;
        tokio::select! {
            biased;
            () = self.engine.closing.cancelled() => return Err(LockError::Cancelled),
            admitted = claim.ticket.admitted() => return Ok(admitted),
            () = self.passed(deadline) => {}
        }
        claim.ticket.stop_waiting();
        let decided = async { Ok(claim.ticket.admitted().await) };
        let limit = deadline.bound(self.engine.options.operation_timeout);
        self.engine.timers.bounded(limit, decided).await
    }

    /// Goes to the server's queue, or back to the local one if another local task is there already.
    fn waits_at_server(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.claim.ticket.wait_at_server())
    }

    /// One request, which ends within the operation timeout, and within one of the deadline.
    async fn try_once(&mut self, deadline: Deadline) -> LockResult<Option<Handle<D>>> {
        let Some(Open { attempt, claim }) = &mut self.open else { return Ok(None) };
        let began = claim.ticket.begin_request();
        let request = self.engine.driver.try_acquire(attempt);
        let limit = deadline.bound(self.engine.options.operation_timeout);
        match self.engine.timers.bounded(limit, request).await? {
            Some(granted) => self.won(granted).map(Some),
            None => {
                claim.ticket.refused(began);
                Ok(None)
            }
        }
    }

    /// Waits at the server until the deadline, and tries a last time then. Begins with a pause if the
    /// first request has failed.
    ///
    /// What fails is repeated soon, once: the connection may have ended while the server is there, and it
    /// forgets a queue position that is not kept. After that, it is repeated once a fallback period until
    /// the waiting itself has worked.
    async fn wait(
        mut self,
        deadline: Deadline,
        mut has_failed: bool,
    ) -> LockResult<Option<Handle<D>>> {
        let fallback = self.engine.driver.fallback_period();
        let soon = fallback.min(SECOND_LOOK);
        let mut until_look = fallback;
        let mut until_repeat = soon;
        loop {
            let interruption = match has_failed {
                true => self.pause(deadline, mem::replace(&mut until_repeat, fallback)).await?,
                false => self.interruption(deadline, until_look).await?,
            };
            if !has_failed && !matches!(interruption, Interruption::WokenUp(Err(_))) {
                until_repeat = soon;
            }
            until_look = match interruption {
                Interruption::WokenUp(Ok(WakeUp::TryAgain)) => soon,
                _ => fallback,
            };
            let last = matches!(interruption, Interruption::Deadline);
            match interruption {
                Interruption::WokenUp(Ok(WakeUp::Granted(granted))) => {
                    return self.won(granted).map(Some);
                }
                Interruption::WokenUp(Err(error)) if self.outlasts(&error) => {
                    self.report_failure(&error);
                    has_failed = true;
                    continue;
                }
                Interruption::WokenUp(Err(error)) => return Err(error),
                // A stream of wake-ups must not keep the runtime from its timers.
                Interruption::WokenUp(Ok(WakeUp::TryAgain)) => tokio::task::consume_budget().await,
                Interruption::FallbackPeriod | Interruption::Deadline => {}
            }
            match self.try_once(deadline).await {
                // A request that was under way at the deadline was the last.
                Ok(None) if last || deadline.has_passed() => return Ok(None),
                Ok(None) => has_failed = false,
                Err(error) if !last && self.outlasts(&error) => {
                    self.report_failure(&error);
                    has_failed = true;
                }
                result => return result,
            }
        }
    }

    /// The first reason to interrupt a wait. The deadline comes before wake-ups, or a stream of them
    /// would hide it.
    async fn interruption(
        &mut self,
        deadline: Deadline,
        pause: Duration,
    ) -> LockResult<Interruption<D::Grant>> {
        let Some(Open { attempt, .. }) = &mut self.open else { return Err(LockError::Cancelled) };
        let Engine { driver, closing, timers, .. } = &*self.engine;
        tokio::select! {
            biased;
            () = closing.cancelled() => Err(LockError::Cancelled),
            () = timers.until(deadline.instant()) => Ok(Interruption::Deadline),
            woken = driver.wait(attempt) => Ok(Interruption::WokenUp(woken)),
            () = timers.until(Instant::now().checked_add(pause)) => Ok(Interruption::FallbackPeriod),
        }
    }

    /// A request has failed: no other until the pause is over or the deadline has passed.
    async fn pause(
        &self,
        deadline: Deadline,
        pause: Duration,
    ) -> LockResult<Interruption<D::Grant>> {
        tokio::select! {
            () = self.engine.closing.cancelled() => Err(LockError::Cancelled),
            () = self.passed(deadline) => Ok(Interruption::Deadline),
            () = self.engine.timers.until(Instant::now().checked_add(pause)) => {
                Ok(Interruption::FallbackPeriod)
            }
        }
    }

    async fn passed(&self, deadline: Deadline) {
        self.engine.timers.until(deadline.instant()).await;
    }

    fn report_failure(&self, error: &LockError) {
        let name = self.open.as_ref().map(|open| &*open.claim.name);
        tracing::debug!(lock = name, %error, "the wait goes on");
    }

    /// The lock is granted. Without an await from here to the handle, nothing can be dropped between.
    fn won(&mut self, granted: Granted<D::Grant>) -> LockResult<Handle<D>> {
        let Some(Open { attempt, claim }) = self.open.take() else {
            return Err(LockError::Cancelled);
        };
        let late = granted.lease.is_some_and(|lease| lease.deadline() <= self.engine.clock().now());
        let unanswered = self.engine.driver.has_unanswered(&attempt).then_some(attempt);
        let hold = Hold::new(claim, granted.grant, unanswered);
        if let Some(token) = granted.token {
            // A new cell: this is its first value.
            let _ = hold.token.set(token);
        }
        let handle = self.engine.hold(hold, granted.lease)?;
        // A late grant is given back by dropping its handle.
        if late { Err(LockError::connection(LateGrant)) } else { Ok(handle) }
    }
}

impl<D: Driver> Drop for PendingAcquire<D> {
    fn drop(&mut self) {
        if let Some(Open { attempt, claim }) = self.open.take() {
            self.engine.withdraw(attempt, claim);
        }
    }
}
