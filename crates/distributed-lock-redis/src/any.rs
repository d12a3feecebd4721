//! The driver behind a provider: one server, or several.

use std::sync::Arc;
use std::time::Duration;

use distributed_lock_core::driver::{Attempt, Driver, Extension, Granted, WakeUp};
use distributed_lock_core::error::LockResult;
use distributed_lock_core::{FencingToken, Guarantees, Holder, LockName, Mode};

use crate::driver::OneServer;
use crate::grant::RedisGrant;
use crate::key::RedisKey;
use crate::place::RedisPlace;
use crate::several::{QuorumGrant, Several};

/// Locks on one Redis server, or on a majority of several.
#[derive(Debug)]
pub struct RedisDriver(pub(crate) Servers);

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "each provider has one")]
pub(crate) enum Servers {
    One(OneServer),
    Several(Arc<Several>),
}

/// A held lock.
#[derive(Debug)]
pub struct AnyGrant(Held);

#[derive(Debug)]
enum Held {
    OnOne(RedisGrant),
    /// Apart, or a lock on one server would take as much memory.
    OnSeveral(Box<QuorumGrant>),
}

type AnyAttempt = Attempt<RedisKey, RedisPlace>;

fn on_one(granted: Granted<RedisGrant>) -> Granted<AnyGrant> {
    wrap(granted, Held::OnOne)
}

fn on_several(granted: Granted<QuorumGrant>) -> Granted<AnyGrant> {
    wrap(granted, |grant| Held::OnSeveral(Box::new(grant)))
}

fn wrap<G>(granted: Granted<G>, held: fn(G) -> Held) -> Granted<AnyGrant> {
    let (lease, token) = (granted.lease, granted.token);
    let grant = AnyGrant(held(granted.grant));
    let wrapped = match lease {
        Some(lease) => Granted::leased(grant, lease),
        None => Granted::lasting(grant),
    };
    match token {
        Some(token) => wrapped.with_token(token),
        None => wrapped,
    }
}

impl Driver for RedisDriver {
    type Key = RedisKey;
    type Place = RedisPlace;
    type Grant = AnyGrant;

    fn resolve(&self, name: LockName<'_>, mode: Mode) -> LockResult<RedisKey> {
        match &self.0 {
            Servers::One(one) => one.resolve(name, mode),
            Servers::Several(several) => several.resolve(name, mode),
        }
    }

    async fn try_acquire(&self, attempt: &mut AnyAttempt) -> LockResult<Option<Granted<AnyGrant>>> {
        match &self.0 {
            Servers::One(one) => Ok(one.try_acquire(attempt).await?.map(on_one)),
            Servers::Several(several) => Ok(several.try_acquire(attempt).await?.map(on_several)),
        }
    }

    async fn wait(&self, attempt: &mut AnyAttempt) -> LockResult<WakeUp<AnyGrant>> {
        match &self.0 {
            Servers::One(one) => Ok(match one.wait(attempt).await? {
                WakeUp::Granted(granted) => WakeUp::Granted(on_one(granted)),
                WakeUp::TryAgain => WakeUp::TryAgain,
            }),
            Servers::Several(several) => Ok(match several.wait(attempt).await? {
                Some(granted) => WakeUp::Granted(on_several(granted)),
                None => WakeUp::TryAgain,
            }),
        }
    }

    fn must_withdraw(&self, attempt: &AnyAttempt) -> bool {
        match &self.0 {
            Servers::One(one) => one.must_withdraw(attempt),
            Servers::Several(_) => attempt.place.on_each.has_something(),
        }
    }

    fn has_unanswered(&self, attempt: &AnyAttempt) -> bool {
        match &self.0 {
            Servers::One(one) => one.has_unanswered(attempt),
            Servers::Several(_) => false,
        }
    }

    async fn withdraw(&self, attempt: &mut AnyAttempt) -> LockResult<()> {
        match &self.0 {
            Servers::One(one) => one.withdraw(attempt).await,
            Servers::Several(several) => several.withdraw(attempt).await,
        }
    }

    async fn extend(&self, grants: &[&AnyGrant]) -> LockResult<Vec<Extension>> {
        match &self.0 {
            Servers::One(one) => {
                let on_one = |grant: &&'_ AnyGrant| matches!(grant.0, Held::OnOne(_));
                debug_assert!(grants.iter().all(on_one));
                let grants: Vec<_> = grants.iter().filter_map(|grant| grant.on_one()).collect();
                one.extend(&grants).await
            }
            Servers::Several(several) => {
                let grants: Vec<_> = grants.iter().filter_map(|grant| grant.on_several()).collect();
                several.extend(&grants).await
            }
        }
    }

    async fn release(&self, grant: &AnyGrant) -> LockResult<()> {
        match (&self.0, &grant.0) {
            (Servers::One(one), Held::OnOne(grant)) => one.release(grant).await,
            (Servers::Several(several), Held::OnSeveral(grant)) => several.release(grant).await,
            // A grant never comes to another driver than its own.
            _ => Ok(()),
        }
    }

    async fn fencing_token(&self, grant: &AnyGrant) -> LockResult<FencingToken> {
        match (&self.0, &grant.0) {
            (Servers::Several(several), Held::OnSeveral(grant)) => several.draw(grant).await,
            (Servers::One(one), Held::OnOne(grant)) => one.fencing_token(grant).await,
            _ => Err(crate::driver::unexpected()),
        }
    }

    fn guarantees(&self) -> Guarantees {
        match &self.0 {
            Servers::One(one) => one.guarantees(),
            Servers::Several(several) => several.guarantees(),
        }
    }

    fn fallback_period(&self) -> Duration {
        match &self.0 {
            Servers::One(one) => one.fallback_period(),
            Servers::Several(several) => several.options.fallback_period(),
        }
    }

    fn extension_cadence(&self) -> Option<Duration> {
        match &self.0 {
            Servers::One(one) => one.extension_cadence(),
            Servers::Several(several) => Some(several.options.extension_cadence),
        }
    }

    async fn holder(&self, key: &RedisKey) -> LockResult<Option<Holder>> {
        match &self.0 {
            Servers::One(one) => one.holder(key).await,
            Servers::Several(several) => several.holder(key).await,
        }
    }
}

impl AnyGrant {
    fn on_one(&self) -> Option<&RedisGrant> {
        match &self.0 {
            Held::OnOne(grant) => Some(grant),
            Held::OnSeveral(_) => None,
        }
    }

    fn on_several(&self) -> Option<&QuorumGrant> {
        match &self.0 {
            Held::OnSeveral(grant) => Some(grant),
            Held::OnOne(_) => None,
        }
    }
}
