//! The engine under `distributed-lock`.
//!
//! Users need the `distributed-lock` crate, which re-exports what they use. This crate is for those
//! who write a backend: implement [`driver::Driver`], make the public types with
//! [`backend_types!`](crate::backend_types), and run the conformance suite of
//! `distributed-lock-testkit` on the result.
//!
//! # For your own unit tests
//!
//! [`memory::MemoryLockProvider`] is a complete backend inside the process, with switches that make
//! it fail:
//!
//! ```
//! use distributed_lock_core::memory::MemoryLockProvider;
//! use distributed_lock_core::prelude::*;
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # runtime.block_on(async {
//! let provider = MemoryLockProvider::new();
//! let handle = provider.acquire_lock("report", None).await?;
//! assert!(provider.try_acquire_lock("report").await?.is_none());
//!
//! provider.store().lose("report");
//! assert!(handle.is_lost());
//! assert!(matches!(handle.release().await, Err(LockError::LockLost(_))));
//! # Ok::<(), LockError>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod background;
pub mod blocking;
mod claim;
#[cfg(test)]
#[path = "claim/tests.rs"]
mod claim_tests;
pub mod clock;
pub mod driver;
mod engine;
mod erased;
pub mod error;
mod guarantees;
mod guard;
mod handle;
mod held_locks;
mod hold;
mod holder;
mod instruments;
mod keeper;
pub mod lease;
mod lock_name;
mod loss_watch;
pub mod memory;
mod mode;
mod newtypes;
mod option_checks;
mod pending_acquire;
pub mod prelude;
mod provider;
mod provider_ext;
mod queue;
#[cfg(test)]
#[path = "queue/tests.rs"]
mod queue_tests;
pub mod runtime;
mod sync;
pub mod telemetry;
pub mod timeout;
pub mod timers;
mod token;
pub mod traits;
pub mod unanswered;
mod watchdog;

pub use engine::Options;
pub use erased::{DynHandle, DynLock, DynLockProvider, DynReaderWriterLock, DynSemaphore};
pub use error::{LockError, LockResult};
pub use guarantees::{Guarantees, HoldEnds, TokenDurability, WaitOrder};
pub use guard::Guarded;
pub use handle::Handle;
pub use held_locks::HeldLocks;
pub use holder::Holder;
pub use lock_name::LockName;
pub use mode::Mode;
pub use provider::{DriverProvider, Lock, ReaderWriterLock, Semaphore};
pub use token::{AttemptToken, FencingToken};
/// What [`lost_token`](traits::LockHandle::lost_token) returns, from `tokio-util`.
pub use tokio_util::sync::CancellationToken;
pub use traits::{
    DistributedLock, DistributedReaderWriterLock, DistributedSemaphore, LockHandle, LockProvider,
    LockProviderExt, Provider, ProviderExt, ReaderWriterLockProvider, SemaphoreProvider,
};
