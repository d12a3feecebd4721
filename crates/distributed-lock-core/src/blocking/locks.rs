//! Locks by name.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Handle, drive};
use crate::error::LockResult;
use crate::traits::{DistributedLock, DistributedReaderWriterLock, DistributedSemaphore};

/// A mutex. See [`DistributedLock`].
pub struct Lock<L>(Arc<L>);

/// A reader-writer lock. See [`DistributedReaderWriterLock`].
pub struct ReaderWriterLock<L>(Arc<L>);

/// A counting semaphore. See [`DistributedSemaphore`].
pub struct Semaphore<S>(Arc<S>);

macro_rules! acquires {
    ($what:literal, $handle:ty, $acquire:ident, $try_acquire:ident) => {
        #[doc = concat!("Acquires ", $what, ", waiting up to `timeout`. See [`DistributedLock::acquire`].")]
        ///
        /// # Errors
        /// As [`DistributedLock::acquire`].
        pub fn $acquire(&self, timeout: Option<Duration>) -> LockResult<Handle<$handle>> {
            let lock = Arc::clone(&self.0);
            drive(async move { lock.$acquire(timeout).await }).map(Handle::new)
        }

        #[doc = concat!("Acquires ", $what, " if that needs no waiting. See [`DistributedLock::try_acquire`].")]
        ///
        /// # Errors
        /// As [`DistributedLock::try_acquire`].
        pub fn $try_acquire(&self) -> LockResult<Option<Handle<$handle>>> {
            let lock = Arc::clone(&self.0);
            Ok(drive(async move { lock.$try_acquire().await })?.map(Handle::new))
        }
    };
}

macro_rules! named {
    ($type:ident, $trait:ident) => {
        impl<L: $trait + 'static> $type<L> {
            pub(super) fn new(lock: L) -> Self {
                Self(Arc::new(lock))
            }

            /// The name, as it was given.
            #[must_use]
            pub fn name(&self) -> &str {
                self.0.name()
            }
        }

        impl<L> Clone for $type<L> {
            fn clone(&self) -> Self {
                Self(Arc::clone(&self.0))
            }
        }

        impl<L: fmt::Debug> fmt::Debug for $type<L> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($type)).field(&self.0).finish()
            }
        }
    };
}

named!(Lock, DistributedLock);
named!(ReaderWriterLock, DistributedReaderWriterLock);
named!(Semaphore, DistributedSemaphore);

impl<L: DistributedLock + 'static> Lock<L> {
    acquires!("the lock", L::Handle, acquire, try_acquire);
}

impl<L: DistributedReaderWriterLock + 'static> ReaderWriterLock<L> {
    acquires!("a read lock", L::ReadHandle, acquire_read, try_acquire_read);
    acquires!("the write lock", L::WriteHandle, acquire_write, try_acquire_write);
}

impl<S: DistributedSemaphore + 'static> Semaphore<S> {
    acquires!("one permit", S::Handle, acquire, try_acquire);

    /// How many permits there are. See [`DistributedSemaphore::max_count`].
    #[must_use]
    pub fn max_count(&self) -> u32 {
        self.0.max_count()
    }
}
