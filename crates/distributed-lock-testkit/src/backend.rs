//! What a backend's test file gives to the suite.

use std::future::Future;
use std::time::Duration;

use distributed_lock_core::DynLockProvider;
use distributed_lock_core::error::LockResult;
use distributed_lock_core::traits::Provider;

/// A backend under test: a data set, and processes that use it.
///
/// The cases choose names that nobody else uses, except for the few awkward names of one case,
/// which takes turns with itself. So all cases may share one data set and run at the same time.
pub trait Backend: Send + Sync + 'static {
    /// What is tested.
    type Provider: Provider;

    /// Starts one more "process": a provider of its own over the same data.
    ///
    /// Called on the runtime that the case uses the provider from, at least at first.
    fn connect(&self) -> impl Future<Output = Self::Provider> + Send;

    /// The same where it may be refused: in a runtime that lacks timers or I/O, or outside any.
    fn try_connect(&self) -> impl Future<Output = LockResult<Self::Provider>> + Send {
        async { Ok(self.connect().await) }
    }

    /// Two names that the backend takes for one lock, if it has such names.
    fn spellings(&self) -> Option<[String; 2]> {
        None
    }

    /// The operation timeout of the providers that [`connect`](Self::connect) returns.
    fn operation_timeout(&self) -> Duration {
        Duration::from_secs(2)
    }
}

/// A backend that can be made to lose a lock, for the cases `with loss`.
pub trait Loses: Backend {
    /// Takes the lock away from whoever holds it, as a fault would, and returns when it is gone.
    ///
    /// `name` is the name as the case gave it, `native_key` what the provider calls it.
    fn lose(&self, name: &str, native_key: &str) -> impl Future<Output = ()> + Send;
}

/// A backend with leases whose holds can be limited, for the cases `with limits`.
pub trait Limits: Backend {
    /// As [`connect`](Backend::connect), with a limit to every hold.
    fn connect_limited(&self, limit: HoldLimit) -> impl Future<Output = Self::Provider> + Send;
}

/// How long a lock may be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldLimit {
    /// `max_hold` of this length.
    MaxHold(Duration),
    /// `auto_extend(false)`.
    NoExtension,
}

/// The same backend, its providers erased.
#[derive(Debug, Clone, Default)]
pub struct Erased<B>(
    /// The backend whose providers are erased.
    pub B,
);

impl<B: Backend> Backend for Erased<B> {
    type Provider = DynLockProvider;

    async fn connect(&self) -> DynLockProvider {
        DynLockProvider::new(self.0.connect().await)
    }

    async fn try_connect(&self) -> LockResult<DynLockProvider> {
        Ok(DynLockProvider::new(self.0.try_connect().await?))
    }

    fn spellings(&self) -> Option<[String; 2]> {
        self.0.spellings()
    }

    fn operation_timeout(&self) -> Duration {
        self.0.operation_timeout()
    }
}

impl<B: Limits> Limits for Erased<B> {
    async fn connect_limited(&self, limit: HoldLimit) -> DynLockProvider {
        DynLockProvider::new(self.0.connect_limited(limit).await)
    }
}

impl<B: Loses> Loses for Erased<B> {
    async fn lose(&self, name: &str, native_key: &str) {
        self.0.lose(name, native_key).await;
    }
}
