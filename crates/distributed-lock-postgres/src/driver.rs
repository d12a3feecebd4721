//! The driver of PostgreSQL's advisory locks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use distributed_lock_core::driver::{Attempt, Driver, Granted, WakeUp};
use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_core::{
    FencingToken, Guarantees, HoldEnds, Holder, LockName, Mode, TokenDurability, WaitOrder,
};

use crate::attempt::{Answer, PostgresPlace, Request};
use crate::connection::{Form, Registration, Session, Sessions, Span};
use crate::error::was_cancelled;
use crate::held::Held;
use crate::holder;
use crate::in_flight::InFlight;
use crate::key::{self, PostgresAdvisoryLockKey};
use crate::resource::{Permit, Read, Reader, Resources};
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

impl PostgresDriver {
    pub(crate) fn new(sessions: Arc<Sessions>, tokens: Tokens) -> Self {
        Self { sessions, resources: Resources::default(), tokens }
    }

    pub(crate) fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// Sends one request for a key; `None` if this process alone makes it pointless. Before it is sent
    /// nothing can be locked, so the future may be dropped.
    async fn ask(&self, key: &PostgresKey, mode: Mode) -> LockResult<Option<Request>> {
        match (key, mode) {
            (PostgresKey::Lock(lock), Mode::Shared) => {
                let (lock, resource) = (*lock, self.resources.of(key));
                let prepared = resource.prepare_read(&self.sessions, lock).await?;
                let read = resource.read(lock, prepared);
                Ok(Some(InFlight::new(async move {
                    Ok(match read.await? {
                        Read::Granted(reader) => Answer::Granted(Locked::Shared(reader)),
                        Read::Refused => Answer::Refused,
                        Read::Changed => Answer::AskAgain,
                    })
                })))
            }
            (PostgresKey::Lock(lock), _) => {
                let (lock, slot) = (*lock, self.sessions.slot().await?);
                slot.session().prepare_try(lock, Form::Exclusive).await?;
                Ok(Some(InFlight::new(async move {
                    let is_locked = slot.session().try_lock(lock, Form::Exclusive).await?;
                    Ok(Answer::of(
                        is_locked.then(|| Held::new(slot, lock, Form::Exclusive)),
                        Locked::Exclusive,
                    ))
                })))
            }
            (PostgresKey::Semaphore { queue, name }, mode) => {
                let (resource, max) = (self.resources.of(key), permits(mode));
                if resource.holds_all(name, max) {
                    return Ok(None);
                }
                let slot = self.sessions.slot().await?;
                slot.session().prepare_scan().await?;
                let permit = resource.try_permit(slot, (name, *queue), max);
                Ok(Some(InFlight::new(
                    async move { Ok(Answer::of(permit.await?, Locked::Permit)) },
                )))
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
        let Attempt { key, mode, place, .. } = &mut *attempt;
        let locked = place.try_once(|| self.ask(key, *mode)).await?;
        locked.map(|locked| granted(attempt, locked)).transpose()
    }

    async fn wait(
        &self,
        attempt: &mut Attempt<PostgresKey, PostgresPlace>,
    ) -> LockResult<WakeUp<PostgresGrant>> {
        let Attempt { key, mode, place, .. } = &mut *attempt;
        let start =
            |session, turn| Waiter::start(session, &self.sessions, self.wanted(key, *mode), turn);
        match place.wait(&self.sessions, start).await {
            Ok(Some(locked)) => granted(attempt, locked).map(WakeUp::Granted),
            Ok(None) => Ok(WakeUp::TryAgain),
            // By an administrator.
            Err(error) if was_cancelled(&error) => Ok(WakeUp::TryAgain),
            Err(error) => Err(error),
        }
    }

    fn must_withdraw(&self, attempt: &Attempt<PostgresKey, PostgresPlace>) -> bool {
        attempt.place.is_something()
    }

    async fn withdraw(&self, attempt: &mut Attempt<PostgresKey, PostgresPlace>) -> LockResult<()> {
        attempt.place.undo().await
    }

    async fn release(&self, grant: &PostgresGrant) -> LockResult<()> {
        grant.locked.release().await
    }

    fn close(&self) {
        self.sessions.close();
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
