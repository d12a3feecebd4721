//! Bounds on single operations, by timers that stay set; for backends.
//!
//! A timer that rings before all others wakes the thread that sleeps until the next one, and every
//! request would make such a timer, to be gone again after a few dozen microseconds. So a timer is
//! kept when its operation has ended, and the next operation puts it off, which tells nobody.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::{LockError, LockResult, NoAnswer};
use crate::runtime::require_timers;

/// How many are kept while nobody uses them.
const MOST_KEPT: usize = 64;

/// Timers for operations of about the same length. A clone shares them.
#[derive(Debug, Clone, Default)]
pub struct Timers(Arc<Mutex<Kept>>);

/// Those of the runtime that used one last: one that has ended must not be kept from being freed.
#[derive(Debug, Default)]
struct Kept {
    runtime: Option<Id>,
    timers: Vec<Pin<Box<Sleep>>>,
}

impl Timers {
    /// Runs one operation of a backend for at most `limit`; silence is [`LockError::Connection`].
    ///
    /// An operation that is ready at once needs no timer.
    pub(crate) async fn bounded<T>(
        &self,
        limit: Duration,
        operation: impl Future<Output = LockResult<T>>,
    ) -> LockResult<T> {
        let mut operation = pin!(operation);
        let first = poll_fn(|context| Poll::Ready(operation.as_mut().poll(context))).await;
        if let Poll::Ready(result) = first {
            return result;
        }
        require_timers()?;
        let Some(end) = Instant::now().checked_add(limit) else { return operation.await };
        let mut timer = self.set(end);
        let mut is_polled = true;
        poll_fn(|context| {
            if !std::mem::take(&mut is_polled)
                && let Poll::Ready(result) = operation.as_mut().poll(context)
            {
                return Poll::Ready(result);
            }
            // An operation that uses up its task's budget does not keep the timer from ringing.
            let rings = pin!(unconstrained(&mut timer)).poll(context);
            rings.map(|()| Err(LockError::connection(NoAnswer(limit))))
        })
        .await
    }

    /// Completes at `end`; `None` never.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn until(&self, end: Option<Instant>) {
        match end {
            Some(end) => self.set(end).await,
            None => std::future::pending().await,
        }
    }

    /// A timer that rings at `end`, on the runtime that polls it.
    ///
    /// # Panics
    /// Outside a tokio runtime that has timers.
    #[must_use]
    pub fn set(&self, end: Instant) -> Timer {
        let runtime = Handle::current().id();
        let mut kept = self.lock();
        let mut of_another = Vec::new();
        if kept.runtime != Some(runtime) {
            kept.runtime = Some(runtime);
            of_another = std::mem::take(&mut kept.timers);
        }
        let one = kept.timers.pop();
        drop(kept);
        drop(of_another);
        let sleep = match one {
            Some(mut sleep) => {
                sleep.as_mut().reset(end);
                sleep
            }
            None => Box::pin(sleep_until(end)),
        };
        Timer { timers: self.clone(), runtime, end, sleep: Some(sleep) }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A timer in use, ready when it rings. Dropped, it is kept for the next.
#[derive(Debug)]
pub struct Timer {
    timers: Timers,
    runtime: Id,
    end: Instant,
    /// Taken by the drop.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Has it ring at another time. Later costs nothing; earlier than all others wakes the thread that
    /// sleeps until the next.
    pub fn reset(&mut self, end: Instant) {
        self.end = end;
        self.sleep.iter_mut().for_each(|sleep| sleep.as_mut().reset(end));
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // A future that moved here left its timer on a runtime that may not be driven any more.
        if let Ok(current) = require_timers()
            && current.id() != self.runtime
        {
            self.runtime = current.id();
            self.sleep = Some(Box::pin(sleep_until(self.end)));
        }
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().poll(context),
            None => Poll::Pending,
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut kept = self.timers.lock();
        if kept.runtime == Some(self.runtime) && kept.timers.len() < MOST_KEPT {
            kept.timers.extend(self.sleep.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);

    /// Ready after this time.
    async fn taking(time: Duration) -> LockResult<()> {
        tokio::time::sleep(time).await;
        Ok(())
    }

    fn paused() -> tokio::runtime::Runtime {
        Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
    }

    #[test]
    fn a_timer_that_was_used_rings_in_time_again() {
        let timers = Timers::default();
        paused().block_on(async {
            for limit in [LIMIT, 3 * LIMIT, LIMIT / 2] {
                timers.bounded(limit, taking(limit / 2)).await.unwrap();
                let start = Instant::now();
                let silence = timers.bounded(limit, std::future::pending::<LockResult<()>>()).await;
                assert!(matches!(silence, Err(LockError::Connection(_))), "{silence:?}");
                assert!(start.elapsed() >= limit && start.elapsed() < limit + LIMIT / 100);
                assert_eq!(timers.lock().timers.len(), 1);
            }
        });
    }

    #[test]
    fn an_operation_that_is_ready_needs_no_timer_and_no_runtime() {
        let timers = Timers::default();
        let mut ready = pin!(timers.bounded(LIMIT, std::future::ready(Ok(()))));
        let polled = ready.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop()));
        assert!(matches!(polled, Poll::Ready(Ok(()))));
        assert_eq!(timers.lock().timers.len(), 0);
    }

    #[test]
    fn an_operation_without_end_of_its_budget_is_bounded_too() {
        let timers = Timers::default();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let limit = Duration::from_millis(20);
        let busy = async {
            loop {
                tokio::task::consume_budget().await;
            }
        };
        let result: LockResult<()> = runtime.block_on(timers.bounded(limit, busy));
        assert!(matches!(result, Err(LockError::Connection(_))));
    }

    #[test]
    fn timers_stay_with_their_runtime_and_are_not_kept_without_end() {
        let timers = Timers::default();
        let first = paused();
        let many = || futures(&timers, MOST_KEPT + 10);
        first.block_on(many());
        assert_eq!(timers.lock().timers.len(), MOST_KEPT);
        drop(first);
        paused().block_on(timers.bounded(LIMIT, taking(LIMIT / 2))).unwrap();
        assert_eq!(timers.lock().timers.len(), 1);
    }

    #[test]
    fn a_timer_rings_on_the_runtime_that_polls_it() {
        let timers = Timers::default();
        let (first, second) = (Builder::new_current_thread(), Builder::new_current_thread());
        let [first, second] = [first, second].map(|mut new| new.enable_all().build().unwrap());
        let silence = timers.bounded(LIMIT / 20, std::future::pending::<LockResult<()>>());
        let mut silence = pin!(silence);
        first.block_on(poll_fn(|context| {
            assert!(silence.as_mut().poll(context).is_pending());
            Poll::Ready(())
        }));
        // The first runtime is alive and not driven.
        let result = second.block_on(silence);
        assert!(matches!(result, Err(LockError::Connection(_))), "{result:?}");
        drop(first);
    }

    async fn futures(timers: &Timers, number: usize) {
        let mut all: Vec<_> =
            (0..number).map(|_| Box::pin(timers.bounded(LIMIT, taking(LIMIT / 2)))).collect();
        poll_fn(|context| {
            all.retain_mut(|one| one.as_mut().poll(context).is_pending());
            if all.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
