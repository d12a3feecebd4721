//! A driver that is wrong in one way.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use distributed_lock_core::clock::{Clock, Moment};
use distributed_lock_core::driver::{Attempt, Driver, Extension, Granted, Lease, WakeUp};
use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_core::{AttemptToken, FencingToken, Guarantees, LockName, Mode};

use super::{Bug, Link};
use crate::faults::Call;

/// Any driver at the end of a [`Link`], with one [`Bug`] or none.
///
/// Without a bug it keeps every promise of its driver: leases count from before their request left.
pub struct Buggy<D: Driver> {
    driver: D,
    bug: Option<Bug>,
    ledger: Ledger<D>,
    link: Link,
    clock: Arc<dyn Clock>,
    ahead: Duration,
    free: Option<Free<D::Key>>,
    /// Those who have taken a place in a queue.
    waiting: Mutex<HashSet<AttemptToken>>,
}

/// How a client makes a server free a lock, whoever holds it.
pub type Free<K> =
    Arc<dyn Fn(&K) -> Pin<Box<dyn Future<Output = LockResult<()>> + Send>> + Send + Sync>;

/// Who holds what, as a server knows it that does not compare tokens. Clones are the same ledger;
/// all clients of one server share one.
pub struct Ledger<D: Driver>(Arc<Mutex<Holders<D>>>);

type Holders<D> = HashMap<<D as Driver>::Key, Arc<<D as Driver>::Grant>>;

/// A hold of a [`Buggy`] driver.
pub struct BuggyGrant<D: Driver> {
    key: D::Key,
    grant: Arc<D::Grant>,
}

impl<D: Driver> Buggy<D> {
    /// A client whose leases go by `clock`, of the server that `ledger` belongs to.
    pub fn new(driver: D, bug: Option<Bug>, ledger: &Ledger<D>, clock: Arc<dyn Clock>) -> Self {
        let (link, ledger) = (Link::default(), ledger.clone());
        let waiting = Mutex::default();
        Self { driver, bug, ledger, link, clock, ahead: Duration::ZERO, free: None, waiting }
    }

    /// Its requests and replies go over this link.
    #[must_use]
    pub fn over(mut self, link: &Link) -> Self {
        self.link = link.clone();
        self
    }

    /// Its own clock is so far ahead of the others'.
    #[must_use]
    pub fn ahead(mut self, ahead: Duration) -> Self {
        self.ahead = ahead;
        self
    }

    /// With [`Bug::ReleaseIgnoresToken`] it releases so; otherwise by the ledger, at the moment when
    /// its request has passed its [`Link`].
    #[must_use]
    pub fn freeing_by(mut self, free: Free<D::Key>) -> Self {
        self.free = Some(free);
        self
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Takes down a grant that was asked for at `sent`, if that is known.
    fn granted(
        &self,
        key: &D::Key,
        sent: Option<Moment>,
        granted: Granted<D::Grant>,
    ) -> Granted<BuggyGrant<D>> {
        let grant = Arc::new(granted.grant);
        self.ledger.lock().insert(key.clone(), Arc::clone(&grant));
        let grant = BuggyGrant { key: key.clone(), grant };
        let taken = match granted.lease {
            Some(lease) => Granted::leased(grant, self.counted(lease, sent)),
            None => Granted::lasting(grant),
        };
        match granted.token {
            Some(token) => taken.with_token(self.token(token)),
            None => taken,
        }
    }

    fn counted(&self, lease: Lease, sent: Option<Moment>) -> Lease {
        let validity = lease.deadline().since(lease.sent());
        let reply = || self.clock.now();
        let from = if self.has(Bug::DeadlineFromReply) { Some(reply()) } else { sent };
        Lease::from_request(from.unwrap_or(lease.sent()), validity)
    }

    fn token(&self, token: FencingToken) -> FencingToken {
        if self.has(Bug::TokensFromClientClock) {
            FencingToken(self.clock.now().after(self.ahead).as_nanos())
        } else {
            token
        }
    }

    /// One request at the server.
    async fn ask(
        &self,
        attempt: &mut Attempt<D::Key, D::Place>,
    ) -> LockResult<Option<Granted<D::Grant>>> {
        let Mode::Permit { max } = attempt.mode else {
            return self.driver.try_acquire(attempt).await;
        };
        let more = u32::from(self.has(Bug::PermitsOffByOne));
        attempt.mode = Mode::Permit { max: max.saturating_add(more) };
        let result = self.driver.try_acquire(attempt).await;
        attempt.mode = Mode::Permit { max };
        result
    }

    fn waiting(&self) -> MutexGuard<'_, HashSet<AttemptToken>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A release that has arrived at the server.
    async fn end(&self, grant: &BuggyGrant<D>) -> LockResult<()> {
        let holder = self.ledger.lock().remove(&grant.key);
        if !self.has(Bug::ReleaseIgnoresToken) {
            if let Some(other) = holder.filter(|holder| !Arc::ptr_eq(holder, &grant.grant)) {
                self.ledger.lock().entry(grant.key.clone()).or_insert(other);
            }
            return self.driver.release(&grant.grant).await;
        }
        if let Some(free) = &self.free {
            return free(&grant.key).await;
        }
        let Some(holder) = holder else { return Ok(()) };
        match self.driver.release(&holder).await {
            Err(LockError::LockLost(_)) => Ok(()),
            result => result,
        }
    }
}

impl<D: Driver> Driver for Buggy<D> {
    type Key = D::Key;
    type Place = D::Place;
    type Grant = BuggyGrant<D>;

    fn resolve(&self, name: LockName<'_>, mode: Mode) -> LockResult<D::Key> {
        if mode == Mode::Shared && self.has(Bug::ModesApart) {
            let name = format!("{name} for readers");
            return self.driver.resolve(LockName::parse(&name)?, mode);
        }
        self.driver.resolve(name, mode)
    }

    async fn try_acquire(
        &self,
        attempt: &mut Attempt<D::Key, D::Place>,
    ) -> LockResult<Option<Granted<BuggyGrant<D>>>> {
        let sent = self.clock.now();
        let granted = self.link.travel(Call::TryAcquire, self.ask(attempt)).await?;
        Ok(granted.map(|granted| self.granted(&attempt.key, Some(sent), granted)))
    }

    async fn wait(
        &self,
        attempt: &mut Attempt<D::Key, D::Place>,
    ) -> LockResult<WakeUp<BuggyGrant<D>>> {
        self.waiting().insert(attempt.token()?);
        Ok(match self.link.travel(Call::Wait, self.driver.wait(attempt)).await? {
            WakeUp::Granted(granted) => WakeUp::Granted(self.granted(&attempt.key, None, granted)),
            WakeUp::TryAgain => WakeUp::TryAgain,
        })
    }

    fn must_withdraw(&self, attempt: &Attempt<D::Key, D::Place>) -> bool {
        let waits = || attempt.token().is_ok_and(|token| self.waiting().contains(&token));
        let forgets = self.has(Bug::NoCleanUp) || (self.has(Bug::PlaceNotWithdrawn) && waits());
        !forgets && self.driver.must_withdraw(attempt)
    }

    async fn withdraw(&self, attempt: &mut Attempt<D::Key, D::Place>) -> LockResult<()> {
        if self.has(Bug::NoCleanUp) {
            return Ok(());
        }
        self.link.travel(Call::Withdraw, self.driver.withdraw(attempt)).await
    }

    async fn extend(&self, grants: &[&BuggyGrant<D>]) -> LockResult<Vec<Extension>> {
        let sent = self.clock.now();
        let inner: Vec<&D::Grant> = grants.iter().map(|grant| &*grant.grant).collect();
        let outcomes = self.link.travel(Call::Extend, self.driver.extend(&inner)).await?;
        let counted = |outcome| match outcome {
            Extension::Extended(lease) => Extension::Extended(self.counted(lease, Some(sent))),
            other => other,
        };
        Ok(outcomes.into_iter().map(counted).collect())
    }

    async fn release(&self, grant: &BuggyGrant<D>) -> LockResult<()> {
        self.link.travel(Call::Release, self.end(grant)).await
    }

    async fn fencing_token(&self, grant: &BuggyGrant<D>) -> LockResult<FencingToken> {
        let request = self.driver.fencing_token(&grant.grant);
        Ok(self.token(self.link.travel(Call::FencingToken, request).await?))
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
}

impl<D: Driver> Ledger<D> {
    fn lock(&self) -> MutexGuard<'_, Holders<D>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Driver> Clone for Ledger<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D: Driver> Default for Ledger<D> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<D: Driver> fmt::Debug for Ledger<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lock().keys()).finish()
    }
}

impl<D: Driver> fmt::Debug for BuggyGrant<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuggyGrant").field("key", &self.key).finish_non_exhaustive()
    }
}

impl<D: Driver + fmt::Debug> fmt::Debug for Buggy<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buggy")
            .field("driver", &self.driver)
            .field("bug", &self.bug)
            .finish_non_exhaustive()
    }
}
