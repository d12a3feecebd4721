//! What cases say about results: always which one, never only "an error".

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use distributed_lock_core::AttemptToken;
use distributed_lock_core::error::LockResult;
use distributed_lock_core::traits::LockHandle;

/// Fails unless the result is an error of this kind.
macro_rules! assert_error {
    ($result:expr, $pattern:pat $(if $guard:expr)? $(, $context:expr)?) => {
        match $result {
            Err($pattern) $(if $guard)? => {}
            other => panic!(
                "expected {}, got {:?} {:?}",
                stringify!($pattern $(if $guard)?),
                other.map(|_| "success"),
                ($($context,)?)
            ),
        }
    };
}
pub(crate) use assert_error;

/// The handle of a try that must succeed.
#[track_caller]
pub(crate) fn granted<H>(result: LockResult<Option<H>>) -> H {
    match result {
        Ok(Some(handle)) => handle,
        Ok(None) => panic!("expected the lock, and it was held"),
        Err(error) => panic!("expected the lock, got {error:?}"),
    }
}

/// Fails unless a try says "held".
#[track_caller]
pub(crate) fn refused<H>(result: LockResult<Option<H>>) {
    match result {
        Ok(None) => {}
        Ok(Some(_)) => panic!("expected that it is held, and got the lock"),
        Err(error) => panic!("expected that it is held, got {error:?}"),
    }
}

/// Fails if a handle was told loss, by any of its channels.
#[track_caller]
pub(crate) fn assert_held(handle: &impl LockHandle) {
    assert!(!handle.is_lost(), "lost without a reason");
    assert!(!handle.lost_token().is_cancelled(), "told loss without a reason");
}

/// A name that nobody else uses.
pub(crate) fn unique_name(case: &str) -> String {
    format!("{case} {}", AttemptToken::random().expect("randomness"))
}

/// A counter that only the lock under test protects: an overlap shows as two visitors at once or as
/// a lost count.
#[derive(Debug, Default)]
pub(crate) struct Unprotected {
    occupied: AtomicBool,
    count: AtomicU64,
}

impl Unprotected {
    /// Counts one more, slowly.
    pub(crate) async fn visit(&self) {
        assert!(!self.occupied.swap(true, Ordering::SeqCst), "two holders at once");
        let before = self.count.load(Ordering::SeqCst);
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        self.count.store(before + 1, Ordering::SeqCst);
        assert!(self.occupied.swap(false, Ordering::SeqCst), "two holders at once");
    }

    /// How many visits there were.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }
}
