//! The same locks for code that is not async.
//!
//! ```
//! use distributed_lock::blocking;
//! use std::time::Duration;
//!
//! let provider = blocking::connect("memory://blocking")?;
//! let handle = provider.acquire_lock("report", Some(Duration::from_secs(5)))?;
//! // Only one thread, of any process, gets here. A thread cannot be stopped from outside, so it asks:
//! assert!(!handle.is_lost());
//! handle.release()?;
//!
//! // The same in one call:
//! provider.with_lock("report", None, |_| println!("one at a time"))?;
//! # Ok::<(), distributed_lock::LockError>(())
//! ```
//!
//! Everything is built and driven on the library's own thread; whoever calls only parks. So it works
//! without a runtime, on a thread made for blocking and on a worker of a runtime, which it blocks: in
//! async code the async traits are better. [`Provider::new`] takes what no URL says:
//!
//! ```
//! # #[cfg(feature = "file")] {
//! use distributed_lock::{FileLockProvider, blocking};
//!
//! # let temporary = tempfile::tempdir()?;
//! # let directory = temporary.path().to_owned();
//! let provider =
//!     blocking::Provider::new(|| async { FileLockProvider::builder().build(directory) })?;
//! assert!(provider.try_acquire_lock("report")?.is_some());
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use distributed_lock_core::DynLockProvider;
pub use distributed_lock_core::blocking::{
    Handle, HeldLocks, Lock, Provider, ReaderWriterLock, Semaphore,
};

use crate::LockResult;

/// Makes the provider that a URL names. See [`connect`](crate::connect()).
///
/// # Errors
/// As [`connect`](crate::connect()).
pub fn connect(url: &str) -> LockResult<Provider<DynLockProvider>> {
    let url = url.to_owned();
    Provider::new(move || async move { crate::connect(&url).await })
}
