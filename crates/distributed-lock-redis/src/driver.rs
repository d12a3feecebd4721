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
use redis::{ErrorKind, RedisError, Value};

use crate::client::Client;
use crate::extend;
use crate::failure::{lock_error, may_be_partial};
use crate::grant::RedisGrant;
use crate::holder;
use crate::key::RedisKey;
use crate::link::Link;
use crate::options::RedisOptions;
use crate::place::RedisPlace;
use crate::script::{ACQUIRE, RELEASE, Run, WITHDRAW};

/// For how long a request of a withdrawn attempt that comes late finds that it was withdrawn.
const TOMBSTONE: Duration = Duration::from_secs(60);

/// Locks on one Redis server.
#[derive(Debug)]
pub(crate) struct OneServer {
    pub(crate) client: Arc<Client>,
    pub(crate) options: RedisOptions,
}

type RedisAttempt = Attempt<RedisKey, RedisPlace>;

/// What the acquire script said.
enum Answer {
    Granted(FencingToken),
    /// With the place in the queue, if it was asked for.
    Refused(u64),
}

impl OneServer {
    /// One run of the acquire script, which does what the attempt's place says.
    async fn ask(&self, attempt: &mut RedisAttempt) -> LockResult<Option<Granted<RedisGrant>>> {
        let token = attempt.token()?;
        let Attempt { key, mode, place, .. } = attempt;
        let (keys, owner) = (key.all(), self.owner(*mode, token));
        let (code, max) = code(*mode);
        let (max, number) = (max.to_string(), place.number());
        let arguments = [
            code,
            &owner,
            &max,
            &self.options.expiry_ms,
            &number,
            &self.options.period_ms,
            &self.client.channel,
        ];
        let run = Run { text: &ACQUIRE, keys: &keys, arguments: &arguments };
        // The lease counts from before its first request.
        let mut sent = None;
        let leaves = |link: &Link| {
            sent.get_or_insert_with(|| self.client.clock.now());
            place.asks_on(link);
        };
        let reply = self.client.run(run, leaves).await;
        if !reply.as_ref().is_err_and(may_be_partial) {
            place.is_answered();
        }
        match answer(&reply?)? {
            Answer::Granted(fencing) => {
                let sent = sent.unwrap_or(Moment::from_nanos(0));
                let lease = self.lease_from(sent);
                let held = (key.clone(), *mode, token);
                let grant = RedisGrant::new(held, fencing, lease.deadline());
                Ok(Some(Granted::leased(grant, lease).with_token(fencing)))
            }
            Answer::Refused(number) => {
                place.stands_at(number);
                Ok(None)
            }
        }
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
        }
        self.ask(attempt).await
    }

    /// The first wait takes a place in the queue; a message then says that it is worth asking.
    async fn wait(&self, attempt: &mut RedisAttempt) -> LockResult<WakeUp<RedisGrant>> {
        if attempt.place.letterbox().is_none() {
            self.client.subscribe().await?;
            let letterbox = self.client.mailbox.open(attempt.token()?);
            attempt.place.waits_with(letterbox);
            if let Some(granted) = self.ask(attempt).await? {
                return Ok(WakeUp::Granted(granted));
            }
        }
        match attempt.place.letterbox() {
            Some(letterbox) => letterbox.news().await,
            None => std::future::pending().await,
        }
        Ok(WakeUp::TryAgain)
    }

    fn must_withdraw(&self, attempt: &RedisAttempt) -> bool {
        attempt.place.has_something()
    }

    async fn withdraw(&self, attempt: &mut RedisAttempt) -> LockResult<()> {
        let token = attempt.token()?;
        let Attempt { key, mode, place, .. } = attempt;
        let (keys, owner) = (key.all(), self.owner(*mode, token));
        let link = self.client.link().await?;
        let tombstone = match place.may_come_after(&link) {
            true => TOMBSTONE.max(self.options.expiry).as_millis().to_string(),
            false => "0".to_owned(),
        };
        let arguments = [code(*mode).0, &owner, &tombstone];
        let run = Run { text: &WITHDRAW, keys: &keys, arguments: &arguments };
        self.client.run_on(&link, run).await.map(drop)
    }

    async fn extend(&self, grants: &[&RedisGrant]) -> LockResult<Vec<Extension>> {
        extend::all(self, grants).await
    }

    async fn release(&self, grant: &RedisGrant) -> LockResult<()> {
        let keys = grant.key.all();
        let owner = self.owner(grant.mode, grant.attempt);
        let arguments = [code(grant.mode).0, owner.as_str()];
        let run = Run { text: &RELEASE, keys: &keys, arguments: &arguments };
        let sent_before = AtomicBool::new(false);
        let leaves = |_: &Link| {
            sent_before.fetch_or(grant.release_leaves(), Ordering::Relaxed);
        };
        let released = self.client.run(run, leaves).await?;
        let is_own_doing =
            sent_before.load(Ordering::Relaxed) && self.client.clock.now() < grant.deadline();
        match released {
            Value::Int(1) => Ok(()),
            // The first request has released it, and its reply was lost.
            _ if is_own_doing => Ok(()),
            _ => Err(LockError::LockLost(GONE.into())),
        }
    }

    async fn fencing_token(&self, grant: &RedisGrant) -> LockResult<FencingToken> {
        Ok(grant.token)
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

fn answer(reply: &Value) -> LockResult<Answer> {
    let Value::Array(parts) = reply else { return Err(unexpected()) };
    let [Value::Int(granted), number] = parts.as_slice() else { return Err(unexpected()) };
    let number = match number {
        Value::BulkString(digits) => std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok()),
        _ => None,
    };
    match (granted, number) {
        (1, Some(token)) => Ok(Answer::Granted(FencingToken(token))),
        // A try has no place.
        (0, place) => Ok(Answer::Refused(place.unwrap_or(0))),
        _ => Err(unexpected()),
    }
}

/// The server does not run our scripts as they are.
pub(crate) fn unexpected() -> LockError {
    lock_error(RedisError::from((
        ErrorKind::UnexpectedReturnType,
        "a reply no script of ours gives",
    )))
}
