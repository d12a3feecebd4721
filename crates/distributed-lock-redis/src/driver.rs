//! The driver of locks on one Redis server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use distributed_lock_core::clock::Moment;
use distributed_lock_core::driver::{Attempt, Driver, Extension, Granted, Lease, WakeUp};
use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_core::{
    AttemptToken, FencingToken, Guarantees, HoldEnds, Holder, LockName, Mode, TokenDurability,
    WaitOrder,
};
use redis::Value;

use crate::client::Client;
use crate::damage::{self, DamagedKey};
use crate::extend;
use crate::failure::{is_wrong_type, may_be_partial};
use crate::free::{self, Contended, Outcome};
use crate::grant::RedisGrant;
use crate::holder;
use crate::key::RedisKey;
use crate::link::Link;
use crate::options::RedisOptions;
use crate::place::RedisPlace;
use crate::script::{ACQUIRE, ACQUIRE_ALONE, DRAW, RELEASE, RELEASE_ALONE, Request, Run, WITHDRAW};

/// How much later than a hold's end is looked for it: the request was on its way when its rest was
/// read, and the server's milliseconds are whole.
const LATENESS: Duration = Duration::from_millis(2);

/// A few times what a request takes.
const FRESH: Duration = Duration::from_millis(1);

/// Locks on one Redis server.
#[derive(Debug)]
pub(crate) struct OneServer {
    pub(crate) client: Arc<Client>,
    pub(crate) options: RedisOptions,
    contended: Contended,
}

type RedisAttempt = Attempt<RedisKey, RedisPlace>;

/// How a request was made.
#[derive(Clone, Copy)]
struct Asked {
    /// When it first left; a lease counts from then.
    first: Moment,
    /// The link that it left on the last time.
    link: u64,
}

/// What a release script said.
enum Released {
    /// Nobody else holds or waits.
    ToNobody,
    ToOthers,
    /// It was released before, and nobody knows to whom.
    Before,
    WasGone,
    /// Nothing was done: the full script must hand it over.
    SomebodyWaits,
}

impl OneServer {
    pub(crate) fn new(client: Arc<Client>, options: RedisOptions) -> Self {
        Self { client, options, contended: Contended::default() }
    }

    /// Takes a mutex that is free and that nobody waits for.
    async fn take_free(
        &self,
        attempt: &mut RedisAttempt,
    ) -> LockResult<Option<Granted<RedisGrant>>> {
        let token = attempt.token()?;
        let owner = self.owner(attempt.mode, token);
        let commands = free::commands(&attempt.key.mutex_on_one(), &owner, &self.options.expiry_ms);
        let (reply, asked) = self.request(attempt, &commands).await;
        if reply.as_ref().is_err_and(|error| !may_be_partial(error)) {
            attempt.place.is_answered(asked.link);
        }
        match Outcome::of(&reply?) {
            Outcome::Taken => {
                attempt.place.is_answered(asked.link);
                Ok(Some(self.granted(attempt, token, asked.first)))
            }
            Outcome::Held => {
                attempt.place.is_answered(asked.link);
                Ok(None)
            }
            Outcome::InDoubt => Ok(None),
        }
    }

    /// Lets a reader or a permit in where nobody else is.
    async fn take_alone(
        &self,
        attempt: &mut RedisAttempt,
    ) -> LockResult<Option<Granted<RedisGrant>>> {
        let token = attempt.token()?;
        let (keys, owner) = (attempt.key.alone(), self.owner(attempt.mode, token));
        let arguments = [owner.as_str(), &self.options.expiry_ms];
        let run = Run { text: &ACQUIRE_ALONE, keys: &keys, arguments: &arguments };
        let (reply, asked) = self.request(attempt, run).await;
        if !reply.as_ref().is_err_and(may_be_partial) {
            attempt.place.is_answered(asked.link);
        }
        match reply? {
            Value::Int(1) => Ok(Some(self.granted(attempt, token, asked.first))),
            Value::Int(2) => Ok(None),
            _ => Err(unexpected()),
        }
    }

    /// One run of the acquire script, which does what the attempt's place says.
    async fn ask(&self, attempt: &mut RedisAttempt) -> LockResult<Option<Granted<RedisGrant>>> {
        let token = attempt.token()?;
        let (keys, owner) = (attempt.key.all(), self.owner(attempt.mode, token));
        let (code, max) = code(attempt.mode);
        let (max, position) = (max.to_string(), attempt.place.position());
        let arguments = [
            code,
            &owner,
            &max,
            &self.options.expiry_ms,
            &position,
            &self.options.period_ms,
            &self.client.channel,
        ];
        // A try omits the waiter's arguments.
        let arguments = if position.is_empty() { &arguments[..5] } else { &arguments[..] };
        let run = Run { text: &ACQUIRE, keys: &keys, arguments };
        let (reply, asked) = self.request(attempt, run).await;
        if !reply.as_ref().is_err_and(may_be_partial) {
            attempt.place.is_answered(asked.link);
        }
        match reply? {
            Value::Int(1) => Ok(Some(self.granted(attempt, token, asked.first))),
            Value::BulkString(answer) => {
                let (position, runs_out_in) = position_of(&answer).ok_or_else(unexpected)?;
                attempt.place.stands_at(position, runs_out_in.map(|left| asked.first.after(left)));
                Ok(None)
            }
            _ => Err(unexpected()),
        }
    }

    /// Makes a request of an attempt, and says how it was made.
    async fn request(
        &self,
        attempt: &mut RedisAttempt,
        request: impl Into<Request<'_>>,
    ) -> (LockResult<Value>, Asked) {
        let mut asked: Option<Asked> = None;
        let leaves = |link: &Link| {
            let first = asked.map_or_else(|| self.client.clock.now(), |asked| asked.first);
            asked = Some(Asked { first, link: link.number });
            attempt.place.asks_on(link.number);
        };
        let reply = self.run(&attempt.key, attempt.mode, request.into(), leaves).await;
        // None was made if there is no link; then there is no grant either.
        (reply, asked.unwrap_or(Asked { first: Moment::from_nanos(0), link: u64::MAX }))
    }

    /// Makes a request over a resource. Keys of another type are removed if no holder depends on them,
    /// and the request is made once more.
    async fn run(
        &self,
        key: &RedisKey,
        mode: Mode,
        request: Request<'_>,
        mut before: impl FnMut(&Link),
    ) -> LockResult<Value> {
        match self.client.run(request, &mut before).await {
            Err(error) if is_wrong_type(&error) => {
                damage::repair(&self.client, &key.with_counter(), code(mode).0).await?;
                self.client.run(request, before).await
            }
            reply => reply,
        }
    }

    fn granted(
        &self,
        attempt: &RedisAttempt,
        token: AttemptToken,
        sent: Moment,
    ) -> Granted<RedisGrant> {
        let lease = self.lease_from(sent);
        let (resource, unanswered) =
            ((attempt.key.clone(), attempt.mode), attempt.place.unanswered());
        let grant = RedisGrant::new(resource, token, unanswered, lease.deadline());
        Granted::leased(grant, lease)
    }

    async fn release_by(&self, grant: &RedisGrant, run: Run<'_>) -> LockResult<Released> {
        let sent_before = AtomicBool::new(false);
        let leaves = |_: &Link| {
            sent_before.fetch_or(grant.release_leaves(), Ordering::Relaxed);
        };
        let reply = match self.run(&grant.key, grant.mode, run.into(), leaves).await {
            // Another program has put something else where the lock was.
            Err(error) if error.find_source::<DamagedKey>().is_some() => {
                return Ok(Released::WasGone);
            }
            reply => reply?,
        };
        let is_own_doing =
            sent_before.load(Ordering::Relaxed) && self.client.clock.now() < grant.deadline();
        Ok(match reply {
            Value::Int(1) => Released::ToNobody,
            Value::Int(3) => Released::ToOthers,
            Value::Int(2) => {
                grant.release_did_nothing();
                Released::SomebodyWaits
            }
            // An earlier request has released it, and its reply was lost.
            _ if is_own_doing => Released::Before,
            _ => Released::WasGone,
        })
    }

    /// Completes when the server has ended the hold that a waiter waits for.
    async fn passed(&self, at: Option<Moment>) {
        match at {
            Some(at) => tokio::time::sleep(at.since(self.client.clock.now()) + LATENESS).await,
            None => std::future::pending().await,
        }
    }

    /// Held for so short that most likely nobody has come to wait.
    fn is_fresh(&self, grant: &RedisGrant) -> bool {
        let left = grant.deadline().since(self.client.clock.now());
        left + FRESH > self.options.validity
    }

    /// A lease that was asked for then; none if too little of it is left.
    fn lease_from(&self, sent: Moment) -> Lease {
        let lease = Lease::from_request(sent, self.options.validity);
        let left = lease.deadline().since(self.client.clock.now());
        if left < self.options.min_validity {
            Lease::from_request(sent, Duration::ZERO)
        } else {
            lease
        }
    }

    /// What the server compares before it extends or ends a hold.
    pub(crate) fn owner(&self, mode: Mode, token: AttemptToken) -> String {
        self.options.owner(mode, token)
    }
}

impl Driver for OneServer {
    type Key = RedisKey;
    type Place = RedisPlace;
    type Grant = RedisGrant;

    fn resolve(&self, name: LockName<'_>, mode: Mode) -> LockResult<RedisKey> {
        RedisKey::new(&self.options.key_prefix, name, mode)
    }

    async fn try_acquire(
        &self,
        attempt: &mut RedisAttempt,
    ) -> LockResult<Option<Granted<RedisGrant>>> {
        if attempt.place.letterbox().is_some() {
            // The server takes a waiter on whose channel nobody listens for dead.
            self.client.subscribe().await?;
            return self.ask(attempt).await;
        }
        // Only a script can tell what an earlier request of the same attempt has done.
        let is_first = !attempt.place.has_asked();
        if is_first && self.client.runs_scripts() && !self.contended.is(&attempt.key) {
            let granted = match attempt.mode {
                Mode::Exclusive => self.take_free(attempt).await?,
                Mode::Shared | Mode::Permit { .. } => self.take_alone(attempt).await?,
            };
            if granted.is_some() {
                return Ok(granted);
            }
            self.contended.saw_others(&attempt.key);
        }
        let granted = self.ask(attempt).await?;
        if granted.is_none() {
            self.contended.saw_others(&attempt.key);
        }
        Ok(granted)
    }

    /// The first wait takes the position that the last try was given; a message then says that it is
    /// worth asking.
    async fn wait(&self, attempt: &mut RedisAttempt) -> LockResult<WakeUp<RedisGrant>> {
        if attempt.place.letterbox().is_none() {
            self.client.subscribe().await?;
            if !attempt.place.has_position()
                && let Some(granted) = self.ask(attempt).await?
            {
                return Ok(WakeUp::Granted(granted));
            }
            let letterbox = self.client.mailbox.open(attempt.token()?);
            attempt.place.waits_with(letterbox);
            if let Some(granted) = self.ask(attempt).await? {
                return Ok(WakeUp::Granted(granted));
            }
        }
        let runs_out = attempt.place.take_runs_out();
        let Some(letterbox) = attempt.place.letterbox() else { return Err(unexpected()) };
        tokio::select! {
            biased;
            () = letterbox.news() => {}
            () = self.passed(runs_out) => {}
        }
        Ok(WakeUp::TryAgain)
    }

    fn must_withdraw(&self, attempt: &RedisAttempt) -> bool {
        attempt.place.has_something()
    }

    fn has_unanswered(&self, attempt: &RedisAttempt) -> bool {
        attempt.place.has_unanswered()
    }

    async fn withdraw(&self, attempt: &mut RedisAttempt) -> LockResult<()> {
        let token = attempt.token()?;
        let Attempt { key, mode, place, .. } = attempt;
        let (keys, owner) = (key.all(), self.owner(*mode, token));
        let mut link = self.client.link().await?;
        for is_last in [false, true] {
            let tombstone = self.options.tombstone(place.may_come_after(&link));
            let arguments = [code(*mode).0, &owner, &tombstone];
            let run = Run { text: &WITHDRAW, keys: &keys, arguments: &arguments };
            match self.client.request_on(&link, run).await {
                Err(error) if is_wrong_type(&error) && !is_last => {
                    damage::repair(&self.client, &key.with_counter(), code(*mode).0).await?;
                }
                // On a new link it may arrive before what is still on its way on this one.
                Err(LockError::Connection(_)) if link.is_broken() && !is_last => {
                    link = self.client.link().await?;
                }
                result => {
                    result?;
                    break;
                }
            }
        }
        place.is_undone();
        Ok(())
    }

    async fn extend(&self, grants: &[&RedisGrant]) -> LockResult<Vec<Extension>> {
        extend::all(self, grants).await
    }

    async fn release(&self, grant: &RedisGrant) -> LockResult<()> {
        let owner = self.owner(grant.mode, grant.attempt);
        let is_alone = !grant.has_unanswered() && !self.contended.is(&grant.key);
        if grant.mode == Mode::Exclusive && is_alone && self.is_fresh(grant) {
            let keys = grant.key.mutex_on_one();
            let run = Run { text: &RELEASE_ALONE, keys: &keys, arguments: &[&owner] };
            match self.release_by(grant, run).await? {
                Released::SomebodyWaits => {}
                Released::WasGone => return Err(LockError::LockLost(GONE.into())),
                Released::ToNobody | Released::ToOthers | Released::Before => return Ok(()),
            }
        }
        let tombstone = self.options.tombstone(grant.has_unanswered());
        let arguments = [code(grant.mode).0, owner.as_str(), &tombstone];
        let keys = grant.key.all();
        let run = Run { text: &RELEASE, keys: &keys, arguments: &arguments };
        match self.release_by(grant, run).await? {
            Released::ToNobody => self.contended.saw_nobody(&grant.key),
            Released::ToOthers => self.contended.saw_others(&grant.key),
            Released::Before => {}
            Released::WasGone | Released::SomebodyWaits => {
                return Err(LockError::LockLost(GONE.into()));
            }
        }
        Ok(())
    }

    async fn fencing_token(&self, grant: &RedisGrant) -> LockResult<FencingToken> {
        let (keys, (code, _)) = (grant.key.with_counter(), code(grant.mode));
        let owner = self.owner(grant.mode, grant.attempt);
        let run = Run { text: &DRAW, keys: &keys, arguments: &[code, &owner] };
        let drawn = match self.run(&grant.key, grant.mode, run.into(), |_| ()).await {
            Err(error) if error.find_source::<DamagedKey>().is_some() => {
                return Err(LockError::LockLost(GONE.into()));
            }
            Ok(Value::BulkString(drawn)) => drawn,
            other => return Err(other.err().unwrap_or_else(unexpected)),
        };
        match digits(&drawn) {
            Some(0) => Err(LockError::LockLost(GONE.into())),
            Some(drawn) => Ok(FencingToken(drawn)),
            None if drawn.is_empty() => Err(damage::exhausted(&self.client, grant.key.counter())),
            None => Err(unexpected()),
        }
    }

    fn guarantees(&self) -> Guarantees {
        let options = &self.options;
        let mut guarantees =
            Guarantees::new(HoldEnds::WithLease(options.expiry), options.extension_cadence)
                .with_tokens(TokenDurability::SurviveDataLoss, "one name on one server");
        guarantees.order = WaitOrder::FirstComeFirstServed;
        guarantees
    }

    fn fallback_period(&self) -> Duration {
        self.options.fallback_period()
    }

    fn extension_cadence(&self) -> Option<Duration> {
        Some(self.options.extension_cadence)
    }

    async fn holder(&self, key: &RedisKey) -> LockResult<Option<Holder>> {
        holder::of(&self.client, key).await
    }
}

/// Why an extension or a release was refused.
pub(crate) const GONE: &str = "its key at the server was removed, replaced or ran out";

/// A mode in the scripts, and how many may hold it.
pub(crate) fn code(mode: Mode) -> (&'static str, u32) {
    match mode {
        Mode::Exclusive => ("x", 1),
        Mode::Shared => ("s", u32::MAX),
        Mode::Permit { max } => ("p", max),
    }
}

/// A position in the queue, and in how long the hold that ends next runs out.
fn position_of(answer: &[u8]) -> Option<(u64, Option<Duration>)> {
    let (position, left) = std::str::from_utf8(answer).ok()?.split_once(' ')?;
    Some((position.parse().ok()?, left.parse().ok().map(Duration::from_millis)))
}

fn digits(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The server does not run our scripts as they are.
pub(crate) fn unexpected() -> LockError {
    LockError::backend("the server gave a reply that no script of ours gives")
}
