//! A driver that answers wrongly on command.

use std::fmt;
use std::future::{Future, pending};
use std::time::Duration;

use distributed_lock_core::driver::{Attempt, Driver, Extension, Granted, WakeUp};
use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_core::{FencingToken, Guarantees, Holder, LockName, Mode};

use super::script::{Call, Outcome, Script};

/// Wraps a driver and spoils its calls as its [`Script`] says.
///
/// A grant whose reply is lost is dropped without a release. A driver must be able to undo it by the
/// attempt's place or token, or end it in the grant's `Drop`, as it must when a reply is really lost.
pub struct FaultyDriver<D> {
    driver: D,
    script: Script,
}

impl<D> FaultyDriver<D> {
    /// A driver that does what `driver` does, except where the script says otherwise.
    pub fn new(driver: D, script: Script) -> Self {
        Self { driver, script }
    }

    /// The driver that is wrapped.
    pub fn inner(&self) -> &D {
        &self.driver
    }

    async fn spoil<T>(
        &self,
        call: Call,
        request: impl Future<Output = LockResult<T>>,
    ) -> LockResult<T> {
        match self.script.next(call) {
            Outcome::Ok => request.await,
            Outcome::Refused => Err(LockError::backend("refused by the script")),
            Outcome::RefusedForNow => Err(LockError::transient("refused for now by the script")),
            Outcome::Cut => Err(LockError::connection("cut by the script")),
            Outcome::ReplyLost => {
                // Whatever it was, nobody hears of it.
                let _ = request.await;
                Err(LockError::connection("reply lost by the script"))
            }
            Outcome::SilentBefore => pending().await,
            Outcome::SilentAfter => {
                // Whatever it was, nobody hears of it.
                let _ = request.await;
                pending().await
            }
            Outcome::Late(delay) => {
                let result = request.await;
                tokio::time::sleep(delay).await;
                result
            }
        }
    }
}

impl<D: Driver> Driver for FaultyDriver<D> {
    type Key = D::Key;
    type Place = D::Place;
    type Grant = D::Grant;

    fn resolve(&self, name: LockName<'_>, mode: Mode) -> LockResult<D::Key> {
        self.driver.resolve(name, mode)
    }

    async fn try_acquire(
        &self,
        attempt: &mut Attempt<D::Key, D::Place>,
    ) -> LockResult<Option<Granted<D::Grant>>> {
        self.spoil(Call::TryAcquire, self.driver.try_acquire(attempt)).await
    }

    async fn wait(&self, attempt: &mut Attempt<D::Key, D::Place>) -> LockResult<WakeUp<D::Grant>> {
        self.spoil(Call::Wait, self.driver.wait(attempt)).await
    }

    fn must_withdraw(&self, attempt: &Attempt<D::Key, D::Place>) -> bool {
        self.driver.must_withdraw(attempt)
    }

    fn has_unanswered(&self, attempt: &Attempt<D::Key, D::Place>) -> bool {
        self.driver.has_unanswered(attempt)
    }

    async fn withdraw(&self, attempt: &mut Attempt<D::Key, D::Place>) -> LockResult<()> {
        self.spoil(Call::Withdraw, self.driver.withdraw(attempt)).await
    }

    async fn extend(&self, grants: &[&D::Grant]) -> LockResult<Vec<Extension>> {
        self.spoil(Call::Extend, self.driver.extend(grants)).await
    }

    async fn release(&self, grant: &D::Grant) -> LockResult<()> {
        self.spoil(Call::Release, self.driver.release(grant)).await
    }

    /// A release that is to be spoiled goes the long way.
    fn release_now(&self, grant: &D::Grant) -> Option<LockResult<()>> {
        if self.script.spoils_next(Call::Release) {
            return None;
        }
        let released = self.driver.release_now(grant)?;
        self.script.next(Call::Release);
        Some(released)
    }

    fn close(&self) {
        self.driver.close();
    }

    async fn fencing_token(&self, grant: &D::Grant) -> LockResult<FencingToken> {
        self.spoil(Call::FencingToken, self.driver.fencing_token(grant)).await
    }

    fn backend(&self) -> &'static str {
        self.driver.backend()
    }

    fn guarantees(&self) -> Guarantees {
        self.driver.guarantees()
    }

    fn fallback_period(&self) -> Duration {
        self.driver.fallback_period()
    }

    fn extension_cadence(&self) -> Option<Duration> {
        self.driver.extension_cadence()
    }

    fn holder(&self, key: &D::Key) -> impl Future<Output = LockResult<Option<Holder>>> + Send {
        self.driver.holder(key)
    }

    #[cfg(unix)]
    fn keep_alive_fd(&self, grant: &D::Grant) -> LockResult<Option<std::os::fd::OwnedFd>> {
        self.driver.keep_alive_fd(grant)
    }
}

impl<D: fmt::Debug> fmt::Debug for FaultyDriver<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyDriver").field("driver", &self.driver).finish_non_exhaustive()
    }
}
