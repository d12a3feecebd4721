//! A candidate: one acquire on its way from the local queue to its grant.

use std::sync::Arc;
use std::time::Duration;

use crate::claim::Claim;
use crate::driver::{Attempt, Driver, Granted, WakeUp};
use crate::engine::Engine;
use crate::error::{LateGrant, LockError, LockResult};
use crate::handle::Handle;
use crate::hold::Hold;
use crate::timeout::Deadline;

/// An attempt and the claim that it makes; dropped before its grant, it is withdrawn.
pub(crate) struct Candidate<'a, D: Driver> {
    engine: &'a Arc<Engine<D>>,
    /// Taken by the grant or the withdrawal.
    open: Option<Open<D>>,
}

struct Open<D: Driver> {
    attempt: Attempt<D::Key, D::Place>,
    claim: Arc<Claim<D::Key>>,
}

/// When to look again after a wake-up that brought nothing, once: the kernel tells of a dead process's
/// files a moment before it lets go of their locks.
const SECOND_LOOK: Duration = Duration::from_millis(50);

/// Why a wait at the server was interrupted.
enum Interruption<G> {
    WokenUp(LockResult<WakeUp<G>>),
    FallbackPeriod,
    Deadline,
}

impl<'a, D: Driver> Candidate<'a, D> {
    pub(crate) fn new(
        engine: &'a Arc<Engine<D>>,
        attempt: Attempt<D::Key, D::Place>,
        claim: Arc<Claim<D::Key>>,
    ) -> Self {
        Self { engine, open: Some(Open { attempt, claim }) }
    }

    /// Whether it must wait in the local queue, as far as is known.
    pub(crate) fn must_queue(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.claim.ticket.verdict().is_none())
    }

    /// Waits in the local queue: `true` when it is this candidate's turn, `false` when the deadline
    /// has passed and others come first.
    pub(crate) async fn admitted(&self, deadline: Deadline) -> LockResult<bool> {
        let Some(Open { claim, .. }) = &self.open else { return Ok(false) };
        if let Some(verdict) = claim.ticket.verdict() {
            return Ok(verdict);
        }
        crate::timeout::require_runtime()?;
        tokio::select! {
            biased;
            () = self.engine.closing.cancelled() => return Err(LockError::Cancelled),
            admitted = claim.ticket.admitted() => return Ok(admitted),
            () = deadline.passed() => {}
        }
        claim.ticket.stop_waiting();
        let decided = async { Ok(claim.ticket.admitted().await) };
        let limit = deadline.bound(self.engine.options.operation_timeout);
        self.engine.timers.bounded(limit, decided).await
    }

    /// Goes to the server's queue, or back to the local one if another local task is there already.
    pub(crate) fn waits_at_server(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.claim.ticket.wait_at_server())
    }

    /// One request, which ends within the operation timeout, and within one of the deadline.
    pub(crate) async fn try_once(&mut self, deadline: Deadline) -> LockResult<Option<Handle<D>>> {
        let Some(Open { attempt, .. }) = &mut self.open else { return Ok(None) };
        let request = self.engine.driver.try_acquire(attempt);
        let limit = deadline.bound(self.engine.options.operation_timeout);
        match self.engine.timers.bounded(limit, request).await? {
            Some(granted) => self.won(granted).map(Some),
            None => Ok(None),
        }
    }

    /// Waits at the server until the deadline, and tries a last time then. Once established, a wait
    /// survives lost connections.
    pub(crate) async fn wait(mut self, deadline: Deadline) -> LockResult<Option<Handle<D>>> {
        let fallback = self.engine.driver.fallback_period();
        let mut patience = fallback;
        loop {
            let interruption = self.interruption(deadline, patience).await?;
            patience = match interruption {
                Interruption::WokenUp(Ok(WakeUp::TryAgain)) => fallback.min(SECOND_LOOK),
                _ => fallback,
            };
            let last = matches!(interruption, Interruption::Deadline);
            match interruption {
                Interruption::WokenUp(Ok(WakeUp::Granted(granted))) => {
                    return self.won(granted).map(Some);
                }
                Interruption::WokenUp(Err(LockError::Connection(_))) => {
                    self.pause(deadline).await?
                }
                Interruption::WokenUp(Err(error)) => return Err(error),
                // A stream of wake-ups must not keep the runtime from its timers.
                Interruption::WokenUp(Ok(WakeUp::TryAgain)) => tokio::task::consume_budget().await,
                Interruption::FallbackPeriod | Interruption::Deadline => {}
            }
            match self.try_once(deadline).await {
                // A request that was under way at the deadline was the last.
                Ok(None) if last || deadline.has_passed() => return Ok(None),
                Ok(None) => {}
                // A grant that came too late has used up the attempt; anything else is asked again.
                Err(LockError::Connection(_)) if !last && self.open.is_some() => {}
                result => return result,
            }
        }
    }

    /// The first reason to look up from a wait. The deadline comes before wake-ups, or a stream of
    /// them would hide it.
    async fn interruption(
        &mut self,
        deadline: Deadline,
        patience: Duration,
    ) -> LockResult<Interruption<D::Grant>> {
        let Some(Open { attempt, .. }) = &mut self.open else { return Err(LockError::Cancelled) };
        let driver = &self.engine.driver;
        tokio::select! {
            biased;
            () = self.engine.closing.cancelled() => Err(LockError::Cancelled),
            () = deadline.passed() => Ok(Interruption::Deadline),
            woken = driver.wait(attempt) => Ok(Interruption::WokenUp(woken)),
            () = tokio::time::sleep(patience) => Ok(Interruption::FallbackPeriod),
        }
    }

    /// The server cannot be reached: no hurry until the fallback period or the deadline.
    async fn pause(&self, deadline: Deadline) -> LockResult<()> {
        tokio::select! {
            () = self.engine.closing.cancelled() => Err(LockError::Cancelled),
            () = deadline.passed() => Ok(()),
            () = tokio::time::sleep(self.engine.driver.fallback_period()) => Ok(()),
        }
    }

    /// The lock is ours. Without an await from here to the handle, nothing can be dropped between.
    fn won(&mut self, granted: Granted<D::Grant>) -> LockResult<Handle<D>> {
        let Some(Open { attempt, claim }) = self.open.take() else {
            return Err(LockError::Cancelled);
        };
        drop(attempt);
        let late = granted.lease.is_some_and(|lease| lease.deadline() <= self.engine.clock().now());
        let hold = Hold::new(claim, granted.grant);
        if let Some(token) = granted.token {
            // A new cell: this is its first value.
            let _ = hold.token.set(token);
        }
        let handle = self.engine.hold(hold, granted.lease)?;
        // A late grant is given back by dropping its handle.
        if late { Err(LockError::connection(LateGrant)) } else { Ok(handle) }
    }
}

impl<D: Driver> Drop for Candidate<'_, D> {
    fn drop(&mut self) {
        if let Some(Open { attempt, claim }) = self.open.take() {
            self.engine.withdraw(attempt, claim);
        }
    }
}
