//! The driver of in-memory locks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

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
    delays: Mutex<Delays>,
}

/// How a request goes wrong on its way, for tests of late arrivals.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detour {
    /// It takes effect, and is answered, this much later, also if its caller has given up.
    Late(Duration),
    /// It takes effect now, its answer is lost, and a copy takes effect this much later.
    Twice(Duration),
}

#[derive(Debug, Default)]
struct Delays {
    requests: u64,
    /// Which request goes wrong, counted from the driver's first, and how.
    detour: Option<(u64, Detour)>,
}

/// What an attempt has at the store.
#[derive(Debug, Default)]
pub struct MemoryPlace {
    /// A request may have taken effect.
    asked: bool,
    sent: u32,
    answered: u32,
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
        Self { store, lease, clock, mistake: None, delays: Mutex::default() }
    }

    /// Sends the request with this number, counted from the next, on a detour.
    #[doc(hidden)]
    pub fn detour(&self, number: u64, detour: Detour) {
        let mut delays = self.delays.lock().unwrap_or_else(PoisonError::into_inner);
        delays.detour = Some((delays.requests + number, detour));
    }

    /// How many requests there were.
    #[doc(hidden)]
    pub fn requests(&self) -> u64 {
        self.delays.lock().unwrap_or_else(PoisonError::into_inner).requests
    }

    /// Makes one request, which the store answers as it behaves.
    async fn request<T: Send + 'static>(
        &self,
        effect: impl Fn() -> T + Send + 'static,
    ) -> LockResult<T> {
        let detour = {
            let mut delays = self.delays.lock().unwrap_or_else(PoisonError::into_inner);
            delays.requests += 1;
            let number = delays.requests;
            delays.detour.filter(|(which, _)| *which == number).map(|(_, detour)| detour)
        };
        let (answer, answered) = oneshot::channel();
        match detour {
            None => return self.store.request(effect).await,
            Some(Detour::Late(delay)) => drop(tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                // The caller may have given up.
                let _ = answer.send(effect());
            })),
            Some(Detour::Twice(delay)) => {
                effect();
                drop(answer);
                drop(tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    effect();
                }));
            }
        }
        answered.await.map_err(LockError::connection)
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
        let Attempt { key, mode, place, loss, .. } = attempt;
        place.asked = true;
        place.sent += 1;
        let sent = self.clock.now();
        let (store, clock, lease) = (self.store.clone(), Arc::clone(&self.clock), self.lease);
        let (owned, mode, loss) = (key.clone(), *mode, loss.clone());
        let taken = self.request(move || {
            let now = clock.now();
            let expires = lease.map_or(Moment::NEVER, |lease| now.after(lease));
            store.take((&owned, id), mode, now, expires, &loss)
        });
        let taken = taken.await;
        // A refusal by the store has no effect.
        place.answered += u32::from(!matches!(taken, Err(LockError::Connection(_))));
        if let Err(changes) = taken? {
            place.asked = place.sent != place.answered;
            place.changes = Some(changes);
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

    fn has_unanswered(&self, attempt: &Attempt<String, MemoryPlace>) -> bool {
        attempt.place.sent != attempt.place.answered
    }

    /// A request that is still on its way finds that its attempt was withdrawn.
    async fn withdraw(&self, attempt: &mut Attempt<String, MemoryPlace>) -> LockResult<()> {
        let id = attempt.token()?;
        let (store, clock) = (self.store.clone(), Arc::clone(&self.clock));
        let key = attempt.key.clone();
        self.request(move || {
            store.forbid(id, clock.now());
            store.end(&key, id)
        })
        .await
        .map(drop)
    }

    async fn extend(&self, grants: &[&MemoryGrant]) -> LockResult<Vec<Extension>> {
        let lease = self.lease.unwrap_or(Duration::MAX);
        let sent = self.clock.now();
        let holds: Vec<_> = grants.iter().map(|grant| (grant.key.clone(), grant.id)).collect();
        let (store, clock) = (self.store.clone(), Arc::clone(&self.clock));
        let extended = self.request(move || {
            let now = clock.now();
            store.extend(&holds, now, now.after(lease))
        });
        let outcome = |extended| match extended {
            true => Extension::Extended(Lease::from_request(sent, lease)),
            false => Extension::Refused("the store no longer has it".into()),
        };
        Ok(extended.await?.into_iter().map(outcome).collect())
    }

    async fn release(&self, grant: &MemoryGrant) -> LockResult<()> {
        let (store, key, id) = (self.store.clone(), grant.key.clone(), grant.id);
        let ended = self.request(move || store.end(&key, id)).await?;
        ended.then_some(()).ok_or_else(gone)
    }

    async fn fencing_token(&self, grant: &MemoryGrant) -> LockResult<FencingToken> {
        let (store, clock) = (self.store.clone(), Arc::clone(&self.clock));
        let (key, id) = (grant.key.clone(), grant.id);
        let token = self.request(move || store.token(&key, id, clock.now()));
        token.await?.ok_or_else(gone)
    }

    fn needs_runtime(&self) -> bool {
        false
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
