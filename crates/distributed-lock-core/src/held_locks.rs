//! Several locks that are held together.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use crate::error::{LockError, LockResult};
use crate::loss_watch::LossWatch;
use crate::traits::LockHandle;

/// The locks that [`acquire_all`](crate::traits::ProviderExt::acquire_all) has acquired.
///
/// Dropping it releases all of them in the background.
#[must_use = "the locks are released as soon as they are dropped"]
pub struct HeldLocks<H> {
    /// In the order in which they were acquired.
    held: Vec<(Box<str>, H)>,
}

impl<H: LockHandle> HeldLocks<H> {
    pub(crate) fn new() -> Self {
        Self { held: Vec::new() }
    }

    pub(crate) fn push(&mut self, name: &str, handle: H) {
        self.held.push((name.into(), handle));
    }

    /// Each name that was acquired, as it was given first, and its handle, in the order in which
    /// they were acquired.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &H)> {
        self.held.iter().map(|(name, handle)| (&**name, handle))
    }

    /// How many locks there are: equal native keys are one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether no name was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether any of them is lost, as [`LockHandle::is_lost`] says it.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.first_lost().is_some()
    }

    /// Runs `future` only while all of them are held: no poll of it starts after one is lost or its
    /// lease has ended; it is dropped then.
    ///
    /// # Errors
    /// [`LockError::LockLost`], which names the first that was lost and says why.
    ///
    /// # Cancel safety
    /// Dropping it drops the inner future; the locks stay held.
    pub fn guard<'a, F: Future + 'a>(
        &'a self,
        future: F,
    ) -> impl Future<Output = LockResult<F::Output>> + use<'a, H, F> {
        let mut losses = LossWatch::default();
        self.iter().for_each(|(_, handle)| losses.add(handle));
        async move {
            let mut inner = pin!(Some(future));
            poll_fn(|context| {
                // For its wake-up only: leases end by the clock, also before a task has noticed.
                losses.wake_on_loss(context);
                let lost = self.first_lost();
                if lost.is_none()
                    && let Some(inner) = inner.as_mut().as_pin_mut()
                {
                    return inner.poll(context).map(Ok);
                }
                inner.set(None);
                Poll::Ready(Err(self.loss().unwrap_or(LockError::Cancelled)))
            })
            .await
        }
    }

    /// Releases all of them, the last acquired first.
    ///
    /// # Errors
    /// The first error. A loss does not keep the others from being released; if the service fails, the
    /// rest is released in the background, so that this ends within the time of one failure.
    ///
    /// # Cancel safety
    /// What a dropped release has not done is done in the background.
    pub async fn release(mut self) -> LockResult<()> {
        let mut lost = Ok(());
        while let Some((name, handle)) = self.held.pop() {
            match handle.release().await {
                Ok(()) => {}
                Err(LockError::LockLost(reason)) => {
                    let named = LockError::LockLost(format!("that of {name:?}: {reason}"));
                    lost = lost.and(Err(named));
                }
                Err(error) => return lost.and(Err(error)),
            }
        }
        lost
    }

    /// The first that is lost, as an error that names it and says why.
    pub(crate) fn loss(&self) -> Option<LockError> {
        let (name, handle) = self.first_lost()?;
        let reason = handle.loss_reason();
        let reason = reason.unwrap_or_else(|| "it ended while guarded work ran".to_owned());
        Some(LockError::LockLost(format!("that of {name:?}: {reason}")))
    }

    fn first_lost(&self) -> Option<(&str, &H)> {
        self.iter().find(|(_, handle)| handle.is_lost())
    }
}

impl<H: LockHandle> fmt::Debug for HeldLocks<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(|(name, _)| name).collect();
        f.debug_struct("HeldLocks")
            .field("names", &names)
            .field("is_lost", &self.is_lost())
            .finish_non_exhaustive()
    }
}
