//! The driver of PostgreSQL's advisory locks.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use distributed_lock_core::driver::{Attempt, Driver, Granted, WakeUp};
use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_core::{
    FencingToken, Guarantees, HoldEnds, Holder, LockName, Mode, TokenDurability, WaitOrder,
};

use crate::connection::{Form, Registration, Session, Sessions, Span};
use crate::error::was_cancelled;
use crate::held::Held;
use crate::holder;
use crate::key::{self, PostgresAdvisoryLockKey};
use crate::resource::{Permit, Reader, Resources};
use crate::token::Tokens;
use crate::waiter::{Waiter, Wanted};

/// How often a waiter looks although nobody told it to: a notification may be lost, and a holder
/// that dies sends none.
const FALLBACK_PERIOD: Duration = Duration::from_secs(1);

/// The most permits of a semaphore: each is a key.
const MOST_PERMITS: u32 = 65_536;

/// Advisory locks of one database.
#[derive(Debug)]
pub struct PostgresDriver {
    sessions: Arc<Sessions>,
    resources: Resources,
    tokens: Tokens,
}

/// What a resource is called at the server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PostgresKey {
    /// A mutex or reader-writer lock.
    Lock(PostgresAdvisoryLockKey),
    /// A semaphore: its queue key, and the name that its slots' keys are made of.
    Semaphore {
        /// The key that waiters queue for.
        queue: i64,
        /// The semaphore's name.
        name: Arc<str>,
    },
}

impl fmt::Display for PostgresKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lock(key) => key.fmt(f),
            Self::Semaphore { queue, .. } => write!(f, "semaphore {queue}"),
        }
    }
}

/// A lock at the server.
pub(crate) enum Locked {
    Exclusive(Held),
    Shared(Reader),
    Permit(Permit),
}

impl Locked {
    fn session(&self) -> &Arc<Session> {
        match self {
            Self::Exclusive(held) => held.session(),
            Self::Shared(reader) => reader.session(),
            Self::Permit(permit) => permit.session(),
        }
    }

    pub(crate) async fn release(&self) -> LockResult<()> {
        match self {
            Self::Exclusive(held) => held.release().await,
            Self::Shared(reader) => reader.release().await,
            Self::Permit(permit) => permit.release().await,
        }
    }
}

/// A lock at the server whose holder is told when its session ends.
pub struct PostgresGrant {
    // Dropped first: the end of the session is told to holders only.
    _registration: Registration,
    locked: Locked,
}

impl fmt::Debug for PostgresGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresGrant").finish_non_exhaustive()
    }
}

type Asking = Pin<Box<dyn Future<Output = LockResult<Option<Locked>>> + Send>>;

/// What an attempt has at the server. A request that was sent goes on to its answer, whoever waits
/// for it.
#[derive(Default)]
pub struct PostgresPlace {
    /// Only used by `&mut self`.
    asking: Mutex<Option<Asking>>,
    waiter: Option<Waiter>,
}

impl fmt::Debug for PostgresPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresPlace")
            .field("waits", &self.waiter.is_some())
            .finish_non_exhaustive()
    }
}

impl PostgresPlace {
    fn asking(&mut self) -> &mut Option<Asking> {
        self.asking.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to the request under way, or to a new one.
    async fn answer(&mut self, ask: impl FnOnce() -> Asking) -> LockResult<Option<Locked>> {
        let asking = self.asking();
        let answer = asking.get_or_insert_with(ask).await;
        *asking = None;
        answer
    }
}

impl PostgresDriver {
    pub(crate) fn new(sessions: Arc<Sessions>, tokens: Tokens) -> Self {
        Self { sessions, resources: Resources::default(), tokens }
    }

    pub(crate) fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// One request for a key, to its end.
    fn ask(&self, key: &PostgresKey, mode: Mode) -> Asking {
        let sessions = Arc::clone(&self.sessions);
        match (key, mode) {
            (PostgresKey::Lock(key), Mode::Shared) => {
                let (key, resource) = (*key, self.resources.of(&PostgresKey::Lock(*key)));
                Box::pin(
                    async move { Ok(resource.try_read(&sessions, key).await?.map(Locked::Shared)) },
                )
            }
            (PostgresKey::Lock(key), _) => {
                let key = *key;
                Box::pin(async move {
                    let seat = sessions.seat().await?;
                    let locked = seat.session().try_lock(key, Form::Exclusive).await?;
                    Ok(locked.then(|| Locked::Exclusive(Held::new(seat, key, Form::Exclusive))))
                })
            }
            (PostgresKey::Semaphore { queue, name }, mode) => {
                let (resource, queue) = (self.resources.of(key), *queue);
                let (name, max) = (Arc::clone(name), permits(mode));
                Box::pin(async move {
                    let permit = resource.try_permit(&sessions, (&name, queue), max).await?;
                    Ok(permit.map(Locked::Permit))
                })
            }
        }
    }

    fn wanted(&self, key: &PostgresKey, mode: Mode) -> Wanted {
        let resource = self.resources.of(key);
        match key {
            PostgresKey::Lock(key) => {
                let form = if mode == Mode::Shared { Form::Shared } else { Form::Exclusive };
                Wanted::Lock(*key, form, resource)
            }
            PostgresKey::Semaphore { queue, name } => {
                let name = Arc::clone(name);
                Wanted::Permit { name, queue: *queue, max: permits(mode), resource }
            }
        }
    }
}

/// Semaphores are only asked for permits.
fn permits(mode: Mode) -> u32 {
    match mode {
        Mode::Permit { max } => max,
        Mode::Exclusive | Mode::Shared => 1,
    }
}

fn granted(
    attempt: &Attempt<PostgresKey, PostgresPlace>,
    locked: Locked,
) -> LockResult<Granted<PostgresGrant>> {
    let registration = locked.session().register(&attempt.loss)?;
    Ok(Granted::lasting(PostgresGrant { _registration: registration, locked }))
}

impl Driver for PostgresDriver {
    type Key = PostgresKey;
    type Place = PostgresPlace;
    type Grant = PostgresGrant;

    fn resolve(&self, name: LockName<'_>, mode: Mode) -> LockResult<PostgresKey> {
        let name = name.as_str();
        match mode {
            Mode::Exclusive | Mode::Shared => {
                PostgresAdvisoryLockKey::from_name(name, true).map(PostgresKey::Lock)
            }
            Mode::Permit { max } if max > MOST_PERMITS => Err(LockError::Unsupported(format!(
                "{max} permits on PostgreSQL; {MOST_PERMITS} is the most"
            ))),
            Mode::Permit { .. } => {
                Ok(PostgresKey::Semaphore { queue: key::queue(name), name: name.into() })
            }
        }
    }

    async fn try_acquire(
        &self,
        attempt: &mut Attempt<PostgresKey, PostgresPlace>,
    ) -> LockResult<Option<Granted<PostgresGrant>>> {
        let locked = match &mut attempt.place.waiter {
            // Whoever is in the queue would be refused by the server: others are before it, or it
            // is.
            Some(waiter) => waiter.look().await?,
            None => {
                let (key, mode) = (&attempt.key, attempt.mode);
                attempt.place.answer(|| self.ask(key, mode)).await?
            }
        };
        locked.map(|locked| granted(attempt, locked)).transpose()
    }

    async fn wait(
        &self,
        attempt: &mut Attempt<PostgresKey, PostgresPlace>,
    ) -> LockResult<WakeUp<PostgresGrant>> {
        let waiter = match &mut attempt.place.waiter {
            Some(waiter) => waiter,
            None => match self.sessions.waiting_seat().await? {
                Some(seat) => {
                    let wanted = self.wanted(&attempt.key, attempt.mode);
                    let waiter = Waiter::start(seat, &self.sessions, wanted);
                    attempt.place.waiter.insert(waiter)
                }
                // As many sessions wait as may: the fallback period's tries are left.
                None => return std::future::pending().await,
            },
        };
        let result = waiter.granted().await;
        attempt.place.waiter = None;
        match result {
            Ok(Some(locked)) => granted(attempt, locked).map(WakeUp::Granted),
            Ok(None) => Ok(WakeUp::TryAgain),
            // By an administrator.
            Err(error) if was_cancelled(&error) => Ok(WakeUp::TryAgain),
            Err(error) => Err(error),
        }
    }

    fn must_withdraw(&self, attempt: &Attempt<PostgresKey, PostgresPlace>) -> bool {
        let asking = attempt.place.asking.lock().unwrap_or_else(PoisonError::into_inner);
        asking.is_some() || attempt.place.waiter.is_some()
    }

    async fn withdraw(&self, attempt: &mut Attempt<PostgresKey, PostgresPlace>) -> LockResult<()> {
        let place = &mut attempt.place;
        if place.asking().is_some() {
            let answer = place.answer(|| Box::pin(std::future::ready(Ok(None)))).await;
            if let Ok(Some(locked)) = answer {
                locked.release().await?;
            }
        }
        if let Some(waiter) = &mut place.waiter {
            waiter.cancel().await?;
            place.waiter = None;
        }
        Ok(())
    }

    async fn release(&self, grant: &PostgresGrant) -> LockResult<()> {
        grant.locked.release().await
    }

    async fn fencing_token(&self, grant: &PostgresGrant) -> LockResult<FencingToken> {
        self.tokens.draw(grant.locked.session()).await
    }

    fn backend(&self) -> &'static str {
        "postgres"
    }

    fn guarantees(&self) -> Guarantees {
        let options = self.sessions.options();
        let told_within = options.keepalive.saturating_mul(2);
        let guarantees = Guarantees::new(HoldEnds::WithSession, told_within)
            .with_order(WaitOrder::FirstComeFirstServed);
        match (&self.tokens, options.span) {
            (Tokens::Sequence(_), _) => {
                guarantees.with_tokens(TokenDurability::SurviveCrash, "one sequence")
            }
            (Tokens::TransactionIds, Span::Session) => {
                guarantees.with_tokens(TokenDurability::WhileRunning, "one server")
            }
            (Tokens::TransactionIds, Span::Transaction) => guarantees,
        }
    }

    fn fallback_period(&self) -> Duration {
        FALLBACK_PERIOD
    }

    async fn holder(&self, key: &PostgresKey) -> LockResult<Option<Holder>> {
        holder::of(&self.sessions, key).await
    }
}
