//! Work that must not go on without its lock.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio_util::sync::WaitForCancellationFuture;

use crate::error::{LockError, LockResult};
use crate::traits::LockHandle;

pin_project! {
    /// A future that runs only while its lock is held, made by [`LockHandle::guard`].
    ///
    /// No poll of the inner future starts after the loss of the lock or after the deadline of its
    /// lease; the inner future is dropped then and the result is [`LockError::LockLost`]. A poll
    /// that has started is not interrupted: a resource that must refuse what comes late needs the
    /// [fencing token](LockHandle::fencing_token).
    #[must_use = "futures do nothing unless polled"]
    #[derive(Debug)]
    pub struct Guarded<'a, H, F> {
        handle: &'a H,
        #[pin]
        loss: WaitForCancellationFuture<'a>,
        #[pin]
        inner: Option<F>,
    }
}

impl<'a, H: LockHandle, F: Future> Guarded<'a, H, F> {
    pub(crate) fn new(handle: &'a H, inner: F) -> Self {
        Self { handle, loss: handle.loss_signal().cancelled(), inner: Some(inner) }
    }
}

impl<H: LockHandle, F: Future> Future for Guarded<'_, H, F> {
    type Output = LockResult<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        // Polled for its wake-up only; whether the lock is lost is the handle's to say.
        let _ = this.loss.poll(context);
        if !this.handle.is_lost()
            && let Some(inner) = this.inner.as_mut().as_pin_mut()
        {
            return inner.poll(context).map(Ok);
        }
        this.inner.set(None);
        let reason = this.handle.loss_reason();
        let reason = reason.unwrap_or_else(|| "it ended while guarded work ran".to_owned());
        Poll::Ready(Err(LockError::LockLost(reason)))
    }
}
