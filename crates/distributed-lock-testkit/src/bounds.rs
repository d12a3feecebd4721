//! How long things may take: the promises' own bounds, in one place.

use std::future::Future;
use std::time::Duration;

use distributed_lock_core::traits::{LockHandle, LockProvider, LockProviderExt};

/// What tests allow on top of a promised bound.
pub const SLACK: Duration = Duration::from_millis(500);

/// How soon a lock is free after its handle or its acquire was dropped.
pub const FREED_WITHIN: Duration = Duration::from_secs(1);

/// How soon a waiter has the lock after its release: the longest fallback period, for the case
/// that its wake-up was lost.
pub const HANDED_OVER_WITHIN: Duration = Duration::from_millis(1500);

/// How soon other processes go on when a waiter does not run: three fallback periods of a second at
/// most, and 3 s.
pub const OTHERS_GO_ON_WITHIN: Duration = Duration::from_secs(6);

/// For how long a case watches that something does *not* happen.
pub const WATCHED_FOR: Duration = Duration::from_millis(100);

/// The longest that a whole case may take; only a hang takes that long.
pub const CASE_LIMIT: Duration = Duration::from_secs(60);

/// Awaits `future`; that it takes longer than `limit` fails the test.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: not within {limit:?}"),
    }
}

/// Takes the lock in the time in which it must be free, and gives it back.
pub async fn assert_freed(process: &impl LockProvider, name: &str, after: &str) {
    match process.acquire_lock(name, Some(FREED_WITHIN)).await {
        Ok(handle) => match handle.release().await {
            Ok(()) => {}
            Err(error) => panic!("{after}: the next holder's release failed: {error:?}"),
        },
        Err(error) => panic!("{after}: not free within {FREED_WITHIN:?}: {error:?}"),
    }
}
