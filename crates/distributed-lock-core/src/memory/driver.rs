//! The driver of in-memory locks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::store::{MemoryStore, WaitingWriter};
use crate::clock::{Clock, Moment};
use crate::driver::{Attempt, Driver, Extension, Granted, Lease, WakeUp};
use crate::error::{LockError, LockResult};
use crate::guarantees::{Guarantees, HoldEnds, TokenDurability};
use crate::lock_name::LockName;
use crate::mode::Mode;
use crate::token::{AttemptToken, FencingToken};

/// Locks in a [`MemoryStore`], with leases or without.
#[derive(Debug)]
pub struct MemoryDriver {
    pub(super) store: MemoryStore,
    lease: Option<Duration>,
    clock: Arc<dyn Clock>,
    /// Why its options cannot work, for every acquire: building is infallible.
    pub(super) mistake: Option<String>,
}

/// What an attempt has at the store.
#[derive(Debug, Default)]
pub struct MemoryPlace {
    /// A request may have taken effect.
    asked: bool,
    changes: Option<watch::Receiver<()>>,
    waiting: Option<WaitingWriter>,
}

/// A hold in the store.
#[derive(Debug)]
pub struct MemoryGrant {
    key: String,
    id: AttemptToken,
}

impl MemoryDriver {
    /// A driver over a store; `lease` is the length of leases, if there shall be any, by `clock`.
    #[must_use]
    pub fn new(store: MemoryStore, lease: Option<Duration>, clock: Arc<dyn Clock>) -> Self {
        Self { store, lease, clock, mistake: None }
    }
}

impl Driver for MemoryDriver {
    type Key = String;
    type Place = MemoryPlace;
    type Grant = MemoryGrant;

    fn resolve(&self, name: LockName<'_>, mode: Mode) -> LockResult<String> {
        if let Some(mistake) = &self.mistake {
            return Err(LockError::Config(mistake.clone()));
        }
        Ok(match mode {
            Mode::Exclusive | Mode::Shared => format!("lock:{name}"),
            Mode::Permit { .. } => format!("semaphore:{name}"),
        })
    }

    async fn try_acquire(
        &self,
        attempt: &mut Attempt<String, MemoryPlace>,
    ) -> LockResult<Option<Granted<MemoryGrant>>> {
        let id = attempt.token()?;
        attempt.place.asked = true;
        let sent = self.clock.now();
        let taken = self.store.request(|| {
            let now = self.clock.now();
            let expires = self.lease.map_or(Moment::NEVER, |lease| now.after(lease));
            self.store.take((&attempt.key, id), attempt.mode, now, expires, &attempt.loss)
        });
        if let Err(changes) = taken.await? {
            attempt.place.asked = false;
            attempt.place.changes = Some(changes);
            return Ok(None);
        }
        let grant = MemoryGrant { key: attempt.key.clone(), id };
        Ok(Some(match self.lease {
            Some(lease) => Granted::leased(grant, Lease::from_request(sent, lease)),
            None => Granted::lasting(grant),
        }))
    }

    async fn wait(
        &self,
        attempt: &mut Attempt<String, MemoryPlace>,
    ) -> LockResult<WakeUp<MemoryGrant>> {
        let Attempt { key, mode, place, .. } = attempt;
        if *mode == Mode::Exclusive && place.waiting.is_none() {
            place.waiting = Some(self.store.writer_waits(key));
        }
        if let Some(changes) = &mut place.changes {
            changes.changed().await.map_err(LockError::connection)?;
        }
        Ok(WakeUp::TryAgain)
    }

    fn must_withdraw(&self, attempt: &Attempt<String, MemoryPlace>) -> bool {
        attempt.place.asked
    }

    async fn withdraw(&self, attempt: &mut Attempt<String, MemoryPlace>) -> LockResult<()> {
        let id = attempt.token()?;
        self.store.request(|| self.store.end(&attempt.key, id)).await.map(drop)
    }

    async fn extend(&self, grants: &[&MemoryGrant]) -> LockResult<Vec<Extension>> {
        let lease = self.lease.unwrap_or(Duration::MAX);
        let sent = self.clock.now();
        let holds: Vec<_> = grants.iter().map(|grant| (grant.key.as_str(), grant.id)).collect();
        let extended = self.store.request(|| {
            let now = self.clock.now();
            self.store.extend(&holds, now, now.after(lease))
        });
        let outcome = |extended| match extended {
            true => Extension::Extended(Lease::from_request(sent, lease)),
            false => Extension::Refused("the store no longer has it".into()),
        };
        Ok(extended.await?.into_iter().map(outcome).collect())
    }

    async fn release(&self, grant: &MemoryGrant) -> LockResult<()> {
        let ended = self.store.request(|| self.store.end(&grant.key, grant.id)).await?;
        ended.then_some(()).ok_or_else(gone)
    }

    async fn fencing_token(&self, grant: &MemoryGrant) -> LockResult<FencingToken> {
        let token = self.store.request(|| self.store.token(&grant.key, grant.id, self.clock.now()));
        token.await?.ok_or_else(gone)
    }

    fn backend(&self) -> &'static str {
        "memory"
    }

    fn guarantees(&self) -> Guarantees {
        let (hold_ends, told_within) = match self.lease {
            Some(lease) => (HoldEnds::WithLease(lease), lease),
            None => (HoldEnds::WithProcess, Duration::ZERO),
        };
        Guarantees::new(hold_ends, told_within)
            .with_tokens(TokenDurability::WhileRunning, "one store")
    }

    fn fallback_period(&self) -> Duration {
        let second = Duration::from_secs(1);
        self.lease.map_or(second, |lease| (lease / 3).clamp(Duration::from_millis(50), second))
    }

    fn extension_cadence(&self) -> Option<Duration> {
        self.lease.map(|lease| lease / 3)
    }
}

fn gone() -> LockError {
    LockError::LockLost("the store no longer has it".into())
}
