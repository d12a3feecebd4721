//! The library's thread, as those see it who wait for it.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::sync::{Arc, mpsc};

use tokio::runtime::Handle;

use crate::background::library_runtime;
use crate::error::{LockError, LockResult};

/// Runs a future on the library's thread; the caller parks until it completes.
pub(super) fn drive<T: Send + 'static>(
    future: impl Future<Output = LockResult<T>> + Send + 'static,
) -> LockResult<T> {
    let Some(library) = library_runtime() else {
        return Err(LockError::backend("the library's thread cannot be started"));
    };
    if Handle::try_current().is_ok_and(|current| current.id() == library.id()) {
        return Err(LockError::Config("a blocking call on the library's own thread".into()));
    }
    let (send, receive) = mpsc::sync_channel(1);
    drop(library.spawn(async move {
        let result = future.await;
        // The caller waits for it, whatever happens.
        let _ = send.send(result);
    }));
    receive
        .recv()
        .unwrap_or_else(|_| Err(LockError::backend("it panicked on the library's thread")))
}

/// A value whose calls and end belong on the library's thread.
pub(super) struct Owned<T>(
    /// Taken once, by the end. Calls under way have a clone.
    Option<Arc<T>>,
);

impl<T> Owned<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Some(Arc::new(value)))
    }

    /// For a call on the library's thread, which gives it back before it returns.
    pub(super) fn lend(&self) -> Arc<T> {
        Arc::clone(self.shared())
    }

    pub(super) fn take(mut self) -> T {
        match self.0.take().and_then(Arc::into_inner) {
            Some(value) => value,
            None => unreachable!("whoever takes it has it alone: every call has returned"),
        }
    }

    fn shared(&self) -> &Arc<T> {
        match &self.0 {
            Some(value) => value,
            None => unreachable!("only the end takes it"),
        }
    }
}

impl<T> Deref for Owned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.shared()
    }
}

/// Without a runtime around it, what the end starts goes to the library's thread by itself; a runtime of
/// the caller's may have no timers, or not be driven.
impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        let caller = Handle::try_current().ok();
        let _entered = caller.and_then(|_| library_runtime()).map(Handle::enter);
        self.0 = None;
    }
}

impl<T: fmt::Debug> fmt::Debug for Owned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
