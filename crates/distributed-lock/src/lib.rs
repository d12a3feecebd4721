//! Locks that work across processes and machines: mutexes, reader-writer locks and counting
//! semaphores behind one set of traits.
//!
//! ```
//! use distributed_lock::*;
//! use std::time::Duration;
//!
//! # let temporary = tempfile::tempdir()?;
//! # let directory = temporary.path();
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # runtime.block_on(async {
//! let provider = FileLockProvider::builder().build(directory)?;
//! let lock = provider.create_lock("report");
//!
//! let handle = lock.acquire(Some(Duration::from_secs(5))).await?;
//! // Only one process at a time gets here.
//! handle.release().await?;
//! # Ok::<(), LockError>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Choose your lock
//!
//! | you want | use |
//! |---|---|
//! | one at a time | [`DistributedLock`], from [`LockProvider::create_lock`] |
//! | to be told that somebody else is at it, instead of waiting | [`DistributedLock::try_acquire`] |
//! | work that stops when the lock is lost | [`LockHandle::guard`] |
//! | a resource that refuses late writers | [`LockHandle::fencing_token`] |
//! | a lock that no process needs to see but yours, in tests | [`MemoryLockProvider`] |
//! | the backend chosen at run time | [`connect()`], [`DynLockProvider`] |
//!
//! # Choose your backend
//!
//! | backend | feature | between | a hold ends with |
//! |---|---|---|---|
//! | [`FileLockProvider`] | `file` (default) | processes of one machine | its process |
//! | [`PostgresLockProvider`] | `postgres` (default) | machines | its session with the server |
//! | [`RedisLockProvider`] | `redis` (default) | machines that reach the server | its lease, unless renewed |
//! | [`MemoryLockProvider`] | | tasks of one process | its process |
//!
//! Every provider says what it can and cannot promise: [`Provider::guarantees`].
//!
//! # Limits
//!
//! In a network where messages may be late, no lock service alone can make sure that a holder which
//! was stopped, swapped out or cut off does not go on when its lock has passed to the next: loss is
//! told as early as it can be known, and that may be too late. If a mistake costs money or data, let
//! the resource compare [fencing tokens](LockHandle::fencing_token).

pub mod blocking;
mod connect;

pub use connect::connect;
pub use distributed_lock_core::error::{LockError, LockResult};
pub use distributed_lock_core::memory::{
    MemoryLock, MemoryLockHandle, MemoryLockProvider, MemoryLockProviderBuilder,
    MemoryReadLockHandle, MemoryReaderWriterLock, MemorySemaphore, MemorySemaphoreHandle,
    MemoryStore, MemoryWriteLockHandle,
};
pub use distributed_lock_core::traits::{
    DistributedLock, DistributedReaderWriterLock, DistributedSemaphore, LockHandle, LockProvider,
    LockProviderExt, Provider, ProviderExt, ReaderWriterLockProvider, SemaphoreProvider,
};
pub use distributed_lock_core::{
    CancellationToken, DynHandle, DynLock, DynLockProvider, DynReaderWriterLock, DynSemaphore,
    FencingToken, Guarantees, Guarded, HeldLocks, HoldEnds, Holder, Mode, TokenDurability,
    WaitOrder,
};
pub use distributed_lock_core::{error, prelude, timeout, traits};
#[cfg(feature = "file")]
pub use distributed_lock_file::{
    FileDistributedLock, FileDistributedReaderWriterLock, FileDistributedSemaphore, FileLockHandle,
    FileLockProvider, FileLockProviderBuilder, FileReadLockHandle, FileSemaphoreHandle,
    FileWriteLockHandle, name,
};
#[cfg(feature = "postgres")]
pub use distributed_lock_postgres::{
    PostgresAdvisoryLockKey, PostgresDistributedLock, PostgresDistributedReaderWriterLock,
    PostgresDistributedSemaphore, PostgresLockHandle, PostgresLockProvider,
    PostgresLockProviderBuilder, PostgresReadLockHandle, PostgresSemaphoreHandle,
    PostgresWriteLockHandle, connection, key,
};
#[cfg(feature = "redis")]
pub use distributed_lock_redis::{
    RedisDistributedLock, RedisDistributedReaderWriterLock, RedisDistributedSemaphore,
    RedisLockHandle, RedisLockProvider, RedisLockProviderBuilder, RedisProtocol,
    RedisReadLockHandle, RedisSemaphoreHandle, RedisWriteLockHandle, semaphore,
};
