//! Locks on PostgreSQL for [`distributed-lock`](https://docs.rs/distributed-lock).

mod builder;
pub mod connection;
mod driver;
mod error;
mod held;
mod holder;
pub mod key;
mod resource;
mod token;
mod transaction;
mod types;
mod waiter;

pub use builder::PostgresLockProviderBuilder;
pub use driver::{PostgresDriver, PostgresGrant, PostgresKey, PostgresPlace};
pub use error::{
    EndedSession, LockTableFull, NoConnection, Standby, TooManyLocks, TooManySessions,
};
pub use key::PostgresAdvisoryLockKey;
pub use types::{
    PostgresDistributedLock, PostgresDistributedReaderWriterLock, PostgresDistributedSemaphore,
    PostgresLockHandle, PostgresLockProvider, PostgresReadLockHandle, PostgresSemaphoreHandle,
    PostgresWriteLockHandle,
};
