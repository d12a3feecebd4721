//! The ways to take a lock of a name, for tests of all of them.

use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_core::{DynHandle, DynLockProvider};
use distributed_lock_postgres::PostgresLockProvider;

/// A way to take a lock. [`Mode::Permit`] is the only permit of its semaphore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Mutex,
    Write,
    Read,
    Permit,
}

impl Mode {
    pub(crate) const ALL: [Self; 4] = [Self::Mutex, Self::Write, Self::Read, Self::Permit];

    /// The mode of a holder that keeps one of this mode out.
    pub(crate) fn opposite(self) -> Self {
        match self {
            Self::Read => Self::Write,
            other => other,
        }
    }

    /// The handles are of one type, whatever the mode.
    pub(crate) async fn acquire(
        self,
        provider: &PostgresLockProvider,
        name: &str,
        timeout: Option<Duration>,
    ) -> LockResult<DynHandle> {
        let provider = DynLockProvider::new(provider.clone());
        match self {
            Self::Mutex => provider.acquire_lock(name, timeout).await,
            Self::Write => provider.create_reader_writer_lock(name).acquire_write(timeout).await,
            Self::Read => provider.create_reader_writer_lock(name).acquire_read(timeout).await,
            Self::Permit => provider.create_semaphore(name, 1).acquire(timeout).await,
        }
    }

    pub(crate) async fn try_acquire(
        self,
        provider: &PostgresLockProvider,
        name: &str,
    ) -> LockResult<Option<DynHandle>> {
        let provider = DynLockProvider::new(provider.clone());
        match self {
            Self::Mutex => provider.try_acquire_lock(name).await,
            Self::Write => provider.create_reader_writer_lock(name).try_acquire_write().await,
            Self::Read => provider.create_reader_writer_lock(name).try_acquire_read().await,
            Self::Permit => provider.create_semaphore(name, 1).try_acquire().await,
        }
    }

    /// Advisory locks at the server while one holds and another waits.
    pub(crate) fn granted_while_one_waits(self) -> i64 {
        // The waiter at the head of a semaphore's queue has the queue key.
        if self == Self::Permit { 2 } else { 1 }
    }
}
