//! Futures that are polled by hand.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A future whose every poll is made by the test, so that it can be dropped between any two.
pub(crate) struct Polled<F> {
    future: Pin<Box<F>>,
    wakeup: Arc<Wakeup>,
}

impl<F: Future> Polled<F> {
    /// A future that was not polled yet.
    pub(crate) fn new(future: F) -> Self {
        Self { future: Box::pin(future), wakeup: Arc::default() }
    }

    /// Polls it once, woken up or not.
    pub(crate) fn poll(&mut self) -> Poll<F::Output> {
        let waker = Waker::from(Arc::clone(&self.wakeup));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// Polls it to its end, as a task does.
    pub(crate) async fn finish(mut self) -> F::Output {
        std::future::poll_fn(|context| self.future.as_mut().poll(context)).await
    }

    /// Waits until it wants to be polled again, but not longer than `pace`.
    pub(crate) async fn woken(&self, pace: Duration) {
        // Either way it is time for the next poll.
        let _ = tokio::time::timeout(pace, self.wakeup.0.notified()).await;
    }
}

/// Starts a task that must wait: its first poll is made here, so that tasks begin to wait in the
/// order in which they are started.
pub(crate) fn start_waiting<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let mut future = Box::pin(future);
    let first = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(first.is_pending(), "it was over at once, and should have waited");
    tokio::spawn(future)
}

#[derive(Default)]
struct Wakeup(Notify);

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}
