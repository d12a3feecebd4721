//! What threads share, by loom; for the core's own `crate::sync`.

use std::sync::{Arc, PoisonError as Poison};

pub(crate) use loom::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};
pub(crate) use loom::sync::{Mutex, MutexGuard};

pub(crate) type PoisonError<T> = Poison<T>;

/// The standard library's `OnceLock` in the orderings that it promises: a value that is seen was
/// published before, and not seeing one orders nothing.
pub(crate) struct OnceLock<T: 'static> {
    is_set: loom::sync::atomic::AtomicBool,
    value: Mutex<Option<&'static T>>,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self { is_set: loom::sync::atomic::AtomicBool::new(false), value: Mutex::new(None) }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.is_set.load(Ordering::Acquire).then(|| self.locked().unwrap_or_else(|| unreachable!()))
    }

    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let mut value = self.value.lock().unwrap_or_else(Poison::into_inner);
        let value = *value.get_or_insert_with(|| Box::leak(Box::new(make())));
        self.is_set.store(true, Ordering::Release);
        value
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        let mut held = self.value.lock().unwrap_or_else(Poison::into_inner);
        if held.is_some() {
            return Err(value);
        }
        *held = Some(Box::leak(Box::new(value)));
        self.is_set.store(true, Ordering::Release);
        Ok(())
    }

    fn locked(&self) -> Option<&'static T> {
        *self.value.lock().unwrap_or_else(Poison::into_inner)
    }
}

/// tokio-util's token as far as it matters here: cancelled once, for all its children.
#[derive(Clone)]
pub(crate) struct CancellationToken(Arc<loom::sync::atomic::AtomicBool>);

impl CancellationToken {
    pub(crate) fn new() -> Self {
        Self(Arc::new(loom::sync::atomic::AtomicBool::new(false)))
    }

    pub(crate) fn child_token(&self) -> Self {
        self.clone()
    }

    pub(crate) fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Who holds at this moment.
pub(crate) mod atomic_count {
    use distributed_lock_core::Mode;
    use loom::sync::atomic::{AtomicUsize, Ordering};

    /// A writer counts for more readers than there are.
    const WRITER: usize = 100;

    pub(crate) struct Inside(AtomicUsize);

    impl Inside {
        pub(crate) fn new() -> Self {
            Self(AtomicUsize::new(0))
        }

        pub(crate) fn enter(&self, mode: Mode) {
            let weight = Self::weight(mode);
            let before = self.0.fetch_add(weight, Ordering::SeqCst);
            assert!(before == 0 || before + weight < WRITER, "two that exclude each other hold");
        }

        pub(crate) fn leave(&self, mode: Mode) {
            self.0.fetch_sub(Self::weight(mode), Ordering::SeqCst);
        }

        fn weight(mode: Mode) -> usize {
            if mode == Mode::Exclusive { WRITER } else { 1 }
        }
    }
}
