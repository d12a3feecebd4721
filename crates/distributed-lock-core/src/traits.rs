//! The traits that every backend implements, and that generic code is written against.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::{LockError, LockResult};
use crate::guarantees::Guarantees;
use crate::guard::Guarded;
use crate::holder::Holder;
use crate::mode::Mode;
use crate::token::FencingToken;

pub use crate::provider_ext::ProviderExt;

/// A mutex that works across processes and machines.
///
/// Nothing is re-entrant: a second acquire waits, also in the task that holds the first. The mutex
/// of a name and the write lock of that name are the same lock.
pub trait DistributedLock: Send + Sync {
    /// What a held lock is.
    type Handle: LockHandle + Send;

    /// The name, as it was given.
    fn name(&self) -> &str;

    /// Acquires the lock, waiting up to `timeout`; `None` waits for ever, zero tries once.
    ///
    /// Ends within `timeout` plus one operation timeout. Waiting tasks of one provider are served
    /// in order.
    ///
    /// # Errors
    /// [`LockError::Timeout`]; [`LockError::Connection`] if the first request is not answered within
    /// the operation timeout (a wait that has begun survives lost connections);
    /// [`LockError::InvalidName`], [`LockError::Unsupported`], [`LockError::Config`] and
    /// [`LockError::Backend`] for what waiting cannot mend; [`LockError::Cancelled`] after a
    /// shutdown.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind: a grant that crosses the cancellation is given
    /// back in the background.
    fn acquire(
        &self,
        timeout: Option<Duration>,
    ) -> impl Future<Output = LockResult<Self::Handle>> + Send;

    /// Acquires the lock if it is free, without waiting for a holder.
    ///
    /// `Ok(None)` means held, or promised to an earlier waiter; never "could not find out". Ends
    /// within the operation timeout.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), except `Timeout`.
    ///
    /// # Cancel safety
    /// As [`acquire`](Self::acquire).
    fn try_acquire(&self) -> impl Future<Output = LockResult<Option<Self::Handle>>> + Send;
}

/// A lock that many readers or one writer hold.
///
/// No writer is starved by readers that overlap. Timeouts, errors and cancel safety are those of
/// [`DistributedLock`].
pub trait DistributedReaderWriterLock: Send + Sync {
    /// What a held read lock is.
    type ReadHandle: LockHandle + Send;
    /// What a held write lock is.
    type WriteHandle: LockHandle + Send;

    /// The name, as it was given.
    fn name(&self) -> &str;

    /// Acquires a read lock, waiting up to `timeout`. See [`DistributedLock::acquire`].
    ///
    /// # Errors
    /// As [`DistributedLock::acquire`].
    fn acquire_read(
        &self,
        timeout: Option<Duration>,
    ) -> impl Future<Output = LockResult<Self::ReadHandle>> + Send;

    /// Acquires a read lock if that needs no waiting. See [`DistributedLock::try_acquire`].
    ///
    /// # Errors
    /// As [`DistributedLock::try_acquire`].
    fn try_acquire_read(&self)
    -> impl Future<Output = LockResult<Option<Self::ReadHandle>>> + Send;

    /// Acquires the write lock, waiting up to `timeout`. See [`DistributedLock::acquire`].
    ///
    /// # Errors
    /// As [`DistributedLock::acquire`].
    fn acquire_write(
        &self,
        timeout: Option<Duration>,
    ) -> impl Future<Output = LockResult<Self::WriteHandle>> + Send;

    /// Acquires the write lock if that needs no waiting. See [`DistributedLock::try_acquire`].
    ///
    /// # Errors
    /// As [`DistributedLock::try_acquire`].
    fn try_acquire_write(
        &self,
    ) -> impl Future<Output = LockResult<Option<Self::WriteHandle>>> + Send;
}

/// A counting semaphore: at most `max_count` permits are held at once.
///
/// Timeouts, errors and cancel safety are those of [`DistributedLock`].
pub trait DistributedSemaphore: Send + Sync {
    /// What a held permit is.
    type Handle: LockHandle + Send;

    /// The name, as it was given.
    fn name(&self) -> &str;

    /// How many permits there are. Everybody who uses the name should say the same number; if they
    /// do not, holders never exceed the largest in use.
    fn max_count(&self) -> u32;

    /// Acquires one permit, waiting up to `timeout`. See [`DistributedLock::acquire`].
    ///
    /// # Errors
    /// As [`DistributedLock::acquire`]; a `max_count` of zero is [`LockError::Config`].
    fn acquire(
        &self,
        timeout: Option<Duration>,
    ) -> impl Future<Output = LockResult<Self::Handle>> + Send;

    /// Acquires one permit if that needs no waiting. See [`DistributedLock::try_acquire`].
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), except `Timeout`.
    fn try_acquire(&self) -> impl Future<Output = LockResult<Option<Self::Handle>>> + Send;
}

/// A held lock.
///
/// Dropping a handle releases the lock in the background: in or outside a runtime, and while a
/// panic unwinds. [`release`](Self::release) does it now and says whether it worked.
pub trait LockHandle: Send + Sync + Sized + 'static {
    /// Releases the lock.
    ///
    /// # Errors
    /// [`LockError::LockLost`] if it was lost before; the next holder's lock is not touched.
    /// [`LockError::Connection`] if the outcome is unknown; it is then tried again in the
    /// background as long as it can matter.
    ///
    /// # Cancel safety
    /// A dropped release is finished in the background.
    fn release(self) -> impl Future<Output = LockResult<()>> + Send;

    /// Cancelled when the lock is lost, never by a clean release.
    ///
    /// The token belongs to the caller: cancelling it ends what the caller hangs on it, not the
    /// lock.
    fn lost_token(&self) -> &CancellationToken;

    /// Whether the lock is lost: for leases by the clock at this call, right even if no task has
    /// run since the lease ended; for sessions and files what was last observed.
    fn is_lost(&self) -> bool;

    /// What is left of the lease as of now; `None` where there are no leases.
    fn remaining(&self) -> Option<Duration>;

    /// A number that grows from holder to holder, for resources that can refuse stale writers.
    ///
    /// Drawn on first use where the grant does not bring it, then cached.
    ///
    /// # Errors
    /// [`LockError::LockLost`] once the lock is lost; [`LockError::Unsupported`] where there are
    /// none; [`LockError::Connection`] and [`LockError::Backend`] from drawing it.
    ///
    /// # Cancel safety
    /// Dropping the future at worst leaves a gap between tokens.
    fn fencing_token(&self) -> impl Future<Output = LockResult<FencingToken>> + Send;

    /// Runs `future` only while the lock is held. See [`Guarded`].
    ///
    /// # Errors
    /// The future ends with [`LockError::LockLost`], which says why, when the lock is lost first.
    fn guard<F: Future>(&self, future: F) -> Guarded<'_, Self, F> {
        Guarded::new(self, future)
    }

    /// Why the lock was lost; `None` while it is held, and where the handle does not know.
    fn loss_reason(&self) -> Option<String> {
        None
    }

    /// What wakes guarded work: as [`lost_token`](Self::lost_token), but nobody else can cancel it.
    #[doc(hidden)]
    fn loss_signal(&self) -> &CancellationToken {
        self.lost_token()
    }

    /// A descriptor that keeps the lock held while any process has it open, for a child that must
    /// keep the lock when its parent dies. `None` where the backend has no such thing.
    ///
    /// It is closed on `exec` unless the caller changes that. [`release`](Self::release) ends the
    /// lock all the same.
    ///
    /// # Errors
    /// [`LockError::Backend`] if the descriptor cannot be duplicated.
    #[cfg(unix)]
    fn keep_alive_fd(&self) -> LockResult<Option<std::os::fd::OwnedFd>> {
        Ok(None)
    }
}

/// Creates mutexes by name.
pub trait LockProvider: Send + Sync {
    /// The mutex that this provider creates.
    type Lock: DistributedLock + 'static;

    /// The mutex of a name. Does no I/O; a name that cannot be used is reported by the first
    /// acquire.
    fn create_lock(&self, name: &str) -> Self::Lock;
}

/// Creates reader-writer locks by name.
pub trait ReaderWriterLockProvider: Send + Sync {
    /// The reader-writer lock that this provider creates.
    type Lock: DistributedReaderWriterLock + 'static;

    /// The reader-writer lock of a name. Does no I/O; a name that cannot be used is reported by the
    /// first acquire.
    fn create_reader_writer_lock(&self, name: &str) -> Self::Lock;
}

/// Creates semaphores by name.
pub trait SemaphoreProvider: Send + Sync {
    /// The semaphore that this provider creates.
    type Semaphore: DistributedSemaphore + 'static;

    /// The semaphore of a name. Does no I/O; a name or count that cannot be used is reported by the
    /// first acquire.
    fn create_semaphore(&self, name: &str, max_count: u32) -> Self::Semaphore;
}

/// Shortcuts for every [`LockProvider`].
pub trait LockProviderExt: LockProvider {
    /// Acquires the mutex of a name. See [`DistributedLock::acquire`].
    fn acquire_lock(
        &self,
        name: &str,
        timeout: Option<Duration>,
    ) -> impl Future<Output = LockResult<<Self::Lock as DistributedLock>::Handle>> + Send {
        let lock = self.create_lock(name);
        async move { lock.acquire(timeout).await }
    }

    /// Acquires the mutex of a name if it is free. See [`DistributedLock::try_acquire`].
    fn try_acquire_lock(
        &self,
        name: &str,
    ) -> impl Future<Output = LockResult<Option<<Self::Lock as DistributedLock>::Handle>>> + Send
    {
        let lock = self.create_lock(name);
        async move { lock.try_acquire().await }
    }
}

impl<P: LockProvider + ?Sized> LockProviderExt for P {}

/// Everything that a provider of locks can do.
///
/// A provider and its clones share one set of locks: they are "the process" of every promise about
/// order and load.
pub trait Provider:
    LockProvider + ReaderWriterLockProvider + SemaphoreProvider + Clone + 'static
{
    /// What this provider promises with the options in use.
    fn guarantees(&self) -> Guarantees;

    /// Ends the provider and its clones: no new acquires, waiters end with
    /// [`LockError::Cancelled`], every handle still out is told loss and then its lock is released.
    ///
    /// Ends within two operation timeouts and returns the names that could not be released by then,
    /// with the reason; those end by themselves as [`Guarantees::hold_ends`] says.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the provider ended; releases go on in the background.
    fn shutdown(&self) -> impl Future<Output = Vec<(String, LockError)>> + Send;

    /// What the backend calls the mutex of this name: equal keys are one lock.
    ///
    /// # Errors
    /// [`LockError::InvalidName`].
    fn native_key(&self, name: &str) -> LockResult<String>;

    /// Who holds the lock of a name, as far as the backend knows, for people who wait.
    ///
    /// # Errors
    /// [`LockError::Connection`] and [`LockError::Backend`] from asking.
    fn holder(
        &self,
        name: &str,
        mode: Mode,
    ) -> impl Future<Output = LockResult<Option<Holder>>> + Send {
        let _ = (name, mode);
        std::future::ready(Ok(None))
    }
}
