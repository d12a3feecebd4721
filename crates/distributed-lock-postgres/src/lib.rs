//! Locks on PostgreSQL for [`distributed-lock`](https://docs.rs/distributed-lock): advisory locks, of
//! which a provider has thousands over two connections, and whose waiters the server wakes in order.
//!
//! ```no_run
//! use distributed_lock_core::prelude::*;
//! use distributed_lock_postgres::PostgresLockProvider;
//! use std::time::Duration;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let provider = PostgresLockProvider::builder()
//!     .connection_string("postgres://app:secret@db.internal/app")
//!     .build()
//!     .await?;
//! let handle = provider.acquire_lock("report", Some(Duration::from_secs(5))).await?;
//! // Only one process at a time gets here, on any machine.
//! handle.release().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! - A lock lasts until it is released or its [session](connection) ends. All locks of a session end
//!   together. The holder is told at once when the connection breaks, and within twice the
//!   [`keepalive_cadence`] (10 s) when it falls silent; the server lets go later than that.
//! - A process waits in the server's queue, first come, first served, for as long as its session lasts;
//!   a session that is lost meanwhile is replaced, at the end of the queue. So is a statement that has
//!   waited for 50 s, or for whose snapshot an index is being built (`CREATE INDEX CONCURRENTLY`): the
//!   server keeps a snapshot for it, which would hold up vacuum and such builds for as long as it waits. Where
//!   more names are waited for than sessions may wait ([`max_waiting_sessions`]), waits take turns, and
//!   each begins at the end of the queue. Reader-writer locks are
//!   served in that order, too: a reader behind a writer that waits, waits. The readers of one process
//!   share one lock at the server; a reader may join them without asking the server within 100 ms of
//!   the last time that a reader of theirs did.
//! - A wait needs one connection. Another one is opened some seconds later. Where more than three quarters
//!   of the server's connections are in use, it is open only for a moment, about three times a minute; while
//!   there is no room for it, the wait does without. Then an index build that waits for the wait's statement
//!   may take 50 s longer, a lost answer is noticed within a minute, a waiter for permits that does not run
//!   is not passed, and [`holder`](distributed_lock_core::traits::Provider::holder) is `None`.
//! - Whoever waits for a permit of a semaphore is told of each release. The permit of a holder that
//!   died is found within a second.
//! - The locks of one database on one primary. After a failover the new primary knows nothing of the
//!   old one's locks; a standby is refused.
//! - [Fencing tokens] are ids of transactions. They increase while the server runs; those of its last
//!   moments before a crash may come again, unless they come from a [`fencing_sequence`].
//! - An application's own connections and pools are never used, except by [`acquire_in`], which locks
//!   in a transaction of yours.
//!
//! # Keys
//!
//! A name becomes a [`key`] as in the .NET library DistributedLock, so both exclude each other; any
//! program can, by `pg_advisory_lock` and the rules there. The mutex and the write lock of a name are
//! `pg_advisory_lock` of its key, the read lock is `pg_advisory_lock_shared`. Each permit of a semaphore
//! has a key of its own, and there is one more that its waiters queue for.
//!
//! # Poolers
//!
//! A pooler that changes servers between transactions breaks locks of sessions silently, so it is
//! noticed and refused. Connect directly, by session pooling, or with [`use_transaction`], which
//! holds each lock by an open transaction of its own; what that costs is said there. How soon a
//! pooler lets go of the locks of a host that vanished is its own matter.
//!
//! # What the user may do
//!
//! The user needs `CONNECT` on the database, and `USAGE` on the sequence, if there is one. Waits are
//! cancelled by `pg_cancel_backend` from another session of the same user. Where the user becomes another
//! role (`ALTER ROLE … SET role`) that may be refused; then the cancel protocol does it, which needs no
//! privilege. Statements name nothing outside `pg_catalog`, whatever the `search_path` is;
//! only the name of a [`fencing_sequence`] is looked up there: give it with its schema.
//!
//! # The server's log
//! A wait that is ended, by its deadline or to be begun anew, is an entry in the server's log
//! (`canceling statement due to user request`). With `log_lock_waits = on`, a wait is logged as one by `psql`; the
//! server then notices after a minute instead of half a second that a waiting client is gone.
//!
//! [`acquire_in`]: PostgresLockProvider::acquire_in
//! [Fencing tokens]: distributed_lock_core::traits::LockHandle::fencing_token
//! [`fencing_sequence`]: PostgresLockProviderBuilder::fencing_sequence
//! [`keepalive_cadence`]: PostgresLockProviderBuilder::keepalive_cadence
//! [`max_waiting_sessions`]: PostgresLockProviderBuilder::max_waiting_sessions
//! [`use_transaction`]: PostgresLockProviderBuilder::use_transaction

mod attempt;
mod builder;
pub mod connection;
mod driver;
mod error;
mod held;
mod holder;
mod in_flight;
pub mod key;
mod permits;
mod resource;
mod token;
mod transaction;
mod turns;
mod types;
mod waiter;

pub use attempt::PostgresPlace;
pub use builder::PostgresLockProviderBuilder;
pub use driver::{PostgresDriver, PostgresGrant, PostgresKey};
pub use error::{
    EndedSession, LockTableFull, NoConnection, Standby, TooManyLocks, TooManySessions,
};
pub use key::PostgresAdvisoryLockKey;
pub use types::{
    PostgresDistributedLock, PostgresDistributedReaderWriterLock, PostgresDistributedSemaphore,
    PostgresLockHandle, PostgresLockProvider, PostgresReadLockHandle, PostgresSemaphoreHandle,
    PostgresWriteLockHandle,
};
