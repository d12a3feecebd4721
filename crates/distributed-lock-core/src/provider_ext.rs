//! What every provider can do by what it must be able to do.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::error::{LockError, LockResult};
use crate::held_locks::HeldLocks;
use crate::loss_watch::LossWatch;
use crate::timeout::Deadline;
use crate::traits::{DistributedLock, LockHandle, LockProvider, Provider};

/// What a held mutex of a provider is.
type Held<P> = <<P as LockProvider>::Lock as DistributedLock>::Handle;

/// Scoped and composite locks, for every [`Provider`].
pub trait ProviderExt: Provider {
    /// Acquires the mutex of a name, runs `work` while it is held, and releases it.
    ///
    /// The work is [guarded](LockHandle::guard): no poll of it starts after the loss of the lock or
    /// after the deadline of its lease. It gets the handle to draw a fencing token or to ask what
    /// remains. The future can be sent to other threads when the closure and its future can.
    ///
    /// ```
    /// use distributed_lock_core::memory::MemoryLockProvider;
    /// use distributed_lock_core::prelude::*;
    /// use std::time::Duration;
    ///
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    /// # runtime.block_on(async {
    /// let provider = MemoryLockProvider::new();
    /// let mut reports = Vec::new();
    /// let token = provider
    ///     .with_lock("report", Some(Duration::from_secs(5)), async |handle| {
    ///         reports.push("monday");
    ///         handle.fencing_token().await
    ///     })
    ///     .await??;
    /// println!("{reports:?} written under {token}");
    /// # Ok::<(), LockError>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`DistributedLock::acquire`], and then the work has not begun. [`LockError::LockLost`] if
    /// the lock is lost before the work completes; the work is dropped where it waits. If the work
    /// completes and the release fails, that error, and the work's result is gone.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work and then releases the lock in the background.
    fn with_lock<F, T>(
        &self,
        name: &str,
        timeout: Option<Duration>,
        work: F,
    ) -> impl Future<Output = LockResult<T>>
    where
        F: AsyncFnOnce(&Held<Self>) -> T;

    /// Acquires the mutexes of several names, all or none of them.
    ///
    /// They are acquired one after the other in the order of their [native
    /// keys](Provider::native_key), so that two who want the same names never wait for each other in
    /// a circle, whatever order they say them in. A name that is given twice, or in two spellings of
    /// one key, is acquired once.
    ///
    /// They have one deadline: this ends within `timeout` plus one operation timeout. `None` waits for
    /// ever; zero tries each name once, each within one operation timeout.
    ///
    /// ```
    /// use distributed_lock_core::memory::MemoryLockProvider;
    /// use distributed_lock_core::prelude::*;
    ///
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    /// # runtime.block_on(async {
    /// let provider = MemoryLockProvider::new();
    /// let accounts = provider.acquire_all(["alice", "bob"], None).await?;
    /// accounts.guard(async { /* move money between the two */ }).await?;
    /// accounts.release().await
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`LockError::InvalidName`] before anything is acquired. Otherwise the first error of
    /// [`DistributedLock::acquire`], with the whole `timeout` in [`LockError::Timeout`], or
    /// [`LockError::LockLost`] if one is lost while others are waited for; what was acquired by then
    /// is released in the background.
    ///
    /// # Cancel safety
    /// Dropping the future releases what it has acquired, in the background.
    fn acquire_all<N: AsRef<str>>(
        &self,
        names: impl IntoIterator<Item = N>,
        timeout: Option<Duration>,
    ) -> impl Future<Output = LockResult<HeldLocks<Held<Self>>>> + Send;
}

impl<P: Provider> ProviderExt for P {
    fn with_lock<F, T>(
        &self,
        name: &str,
        timeout: Option<Duration>,
        work: F,
    ) -> impl Future<Output = LockResult<T>>
    where
        F: AsyncFnOnce(&Held<P>) -> T,
    {
        let lock = self.create_lock(name);
        async move {
            let handle = lock.acquire(timeout).await?;
            let result = handle.guard(work(&handle)).await?;
            handle.release().await?;
            Ok(result)
        }
    }

    fn acquire_all<N: AsRef<str>>(
        &self,
        names: impl IntoIterator<Item = N>,
        timeout: Option<Duration>,
    ) -> impl Future<Output = LockResult<HeldLocks<Held<P>>>> + Send {
        let deadline = Deadline::after(timeout);
        let locks = in_order(self, names);
        let too_late = move || LockError::Timeout(timeout.unwrap_or(Duration::MAX));
        async move {
            let (mut held, mut losses) = (HeldLocks::new(), LossWatch::default());
            for lock in locks? {
                let left = deadline.remaining();
                // Nothing begins after the deadline but the tries that a timeout of zero asks for.
                let passed = left == Some(Duration::ZERO) && timeout != Some(Duration::ZERO);
                if passed && !held.is_empty() {
                    return Err(too_late());
                }
                let mut acquiring = pin!(lock.acquire(left));
                // To look at each that is held whenever this is polled would be quadratic.
                let acquired = poll_fn(|context| {
                    if losses.wake_on_loss(context)
                        && let Some(loss) = held.loss()
                    {
                        return Poll::Ready(Err(loss));
                    }
                    acquiring.as_mut().poll(context)
                });
                let handle = acquired.await.map_err(|error| match error {
                    LockError::Timeout(_) => too_late(),
                    other => other,
                })?;
                losses.add(&handle);
                held.push(lock.name(), handle);
            }
            // A lease may have ended before a task has noticed.
            held.loss().map_or(Ok(held), Err)
        }
    }
}

/// The locks of these names, each native key once, in their order.
fn in_order<P: Provider, N: AsRef<str>>(
    provider: &P,
    names: impl IntoIterator<Item = N>,
) -> LockResult<Vec<<P as LockProvider>::Lock>> {
    let mut locks = BTreeMap::new();
    for name in names {
        let key = provider.native_key(name.as_ref())?;
        locks.entry(key).or_insert_with(|| provider.create_lock(name.as_ref()));
    }
    Ok(locks.into_values().collect())
}
