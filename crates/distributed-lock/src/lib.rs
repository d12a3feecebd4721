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
//! What may happen at the same time decides which kind it is:
//!
//! | may work at once | kind |
//! |---|---|
//! | one | a mutex: [`DistributedLock`], from [`LockProvider::create_lock`] |
//! | any number who read, or one who writes | a reader-writer lock: [`DistributedReaderWriterLock`], from [`ReaderWriterLockProvider::create_reader_writer_lock`] |
//! | at most `n` | a semaphore: [`DistributedSemaphore`], from [`SemaphoreProvider::create_semaphore`] |
//!
//! The mutex and the write lock of a name are the same lock; the semaphore of a name is separate. In
//! doubt take the mutex. Nothing is re-entrant. How to hold it:
//!
//! | you want | use |
//! |---|---|
//! | work that runs under a lock, and stops when the lock is lost | [`ProviderExt::with_lock`] |
//! | a lock that is held for longer than one block of code | [`DistributedLock::acquire`], and [`LockHandle::guard`] for each piece of work |
//! | to be told that somebody else is at it, instead of waiting | [`DistributedLock::try_acquire`] |
//! | several names at once, without deadlocks | [`ProviderExt::acquire_all`] |
//! | a resource that refuses late writers | [`LockHandle::fencing_token`] |
//! | no holder to keep it for ever | `max_hold`, `auto_extend(false)` of a builder whose locks are leases |
//! | a program that is not async | [`blocking`] |
//! | to see who waits, holds and loses | [`telemetry`] |
//! | a lock that no process needs to see but yours, in tests | [`MemoryLockProvider`] |
//! | the backend chosen at run time | [`connect()`], [`DynLockProvider`] |
//!
//! ```
//! use distributed_lock::*;
//! use std::time::Duration;
//!
//! /// Generic, so that tests give it a [`MemoryLockProvider`].
//! async fn nightly(provider: &impl Provider) -> LockResult<()> {
//!     let patience = Some(Duration::from_secs(5));
//!     let token = provider
//!         .with_lock("report", patience, async |handle| {
//!             let token = handle.fencing_token().await?;
//!             // It goes along with each write: a resource that has seen a greater one refuses it.
//!             Ok::<_, LockError>(token)
//!         })
//!         .await??;
//!     println!("written under {token}");
//!
//!     let accounts = provider.acquire_all(["alice", "bob"], patience).await?;
//!     accounts.guard(async { /* move money between the two */ }).await?;
//!     accounts.release().await
//! }
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # runtime.block_on(nightly(&MemoryLockProvider::new()))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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
pub use distributed_lock_core::{error, prelude, telemetry, timeout, traits};
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
    RedisReadLockHandle, RedisSemaphoreHandle, RedisWriteLockHandle, redlock, semaphore,
};
