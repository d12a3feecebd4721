//! A request that was sent.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

/// A request on its way to its answer, and its only owner.
///
/// Whoever waits for the answer may stop and come back: the request is still here. Only its owner can
/// drop it, and does so when its answer has come, or its session has ended.
pub(crate) struct InFlight<T>(Mutex<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T> InFlight<T> {
    pub(crate) fn new(request: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Mutex::new(Box::pin(request)))
    }

    /// The answer. Not called again once it has come.
    pub(crate) async fn answer(&self) -> T {
        poll_fn(|context| self.poll(context)).await
    }

    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut().poll(context)
    }
}

impl<T> fmt::Debug for InFlight<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InFlight")
    }
}
