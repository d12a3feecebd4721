//! A lock held on a majority: its release and its fencing token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use distributed_lock_core::FencingToken;
use distributed_lock_core::clock::Moment;
use distributed_lock_core::driver::Lease;
use distributed_lock_core::error::{LockError, LockResult};
use redis::Value;

use super::Several;
use super::failures::Failures;
use super::fanout::{Fanout, Reply};
use super::place::RoundRequests;
use super::undo::End;
use super::vote::Account;
use crate::damage::{self, DamagedKey};
use crate::driver::{GONE, unexpected};
use crate::redlock::drawing::{Drawing, DrawingCommand, Raised};
use crate::redlock::release::Undone;
use crate::redlock::servers::ServerId;
use crate::script::{QUORUM_TOKEN, Run};

/// A few times what a request takes.
const FRESH: Duration = Duration::from_millis(3);

/// A lock held on a majority of the servers.
#[derive(Debug)]
pub(crate) struct QuorumGrant {
    pub(super) requests: Arc<RoundRequests>,
    deadline: AtomicU64,
    is_released: AtomicBool,
}

impl QuorumGrant {
    pub(super) fn new(requests: Arc<RoundRequests>, lease: Lease) -> Self {
        let deadline = AtomicU64::new(lease.deadline().as_nanos());
        Self { requests, deadline, is_released: AtomicBool::new(false) }
    }

    fn deadline(&self) -> Moment {
        Moment::from_nanos(self.deadline.load(Ordering::Relaxed))
    }

    pub(super) fn extend_to(&self, deadline: Moment) {
        self.deadline.fetch_max(deadline.as_nanos(), Ordering::Relaxed);
    }
}

impl Several {
    pub(crate) async fn release(self: &Arc<Self>, grant: &QuorumGrant) -> LockResult<()> {
        let was_sent = grant.is_released.swap(true, Ordering::Relaxed);
        let end = if self.is_alone(grant) { End::Alone } else { End::Whole };
        let (undone, failures) = self.undo(&grant.requests, end).await;
        let may_be_undone = || was_sent || grant.requests.may_be_undone.load(Ordering::Relaxed);
        match undone {
            Undone::Released => Ok(()),
            // An earlier request has released it, and its reply was lost.
            Undone::Gone if may_be_undone() && self.now() < grant.deadline() => Ok(()),
            Undone::Gone => Err(LockError::LockLost(GONE.into())),
            Undone::Unknown => Err(failures.error(self)),
        }
    }

    /// A mutex held for so short that most likely nobody has come to wait.
    fn is_alone(&self, grant: &QuorumGrant) -> bool {
        let RoundRequests { code, waiter, key, .. } = &*grant.requests;
        let left = grant.deadline().since(self.now());
        let is_fresh = left + FRESH > self.timing.validity();
        *code == "x" && waiter.is_none() && is_fresh && !self.contended.is(key)
    }

    /// Draws the fencing token of a held lock.
    pub(crate) async fn draw(self: &Arc<Self>, grant: &QuorumGrant) -> LockResult<FencingToken> {
        let (mut drawing, mut commands) = Drawing::begin(self.quorum);
        let (reachable, mut failures) = (self.reachable(), Failures::default());
        loop {
            // What was asked before is of no more interest: its reply is not read.
            let mut fanout = Fanout::new(self);
            for command in &commands {
                let (server, number) = match command {
                    DrawingCommand::Step(server) => (*server, None),
                    DrawingCommand::Raise(server, number) => (*server, Some(*number)),
                    DrawingCommand::Drawn(number) => return Ok(FencingToken(*number)),
                    DrawingCommand::Gone => return Err(LockError::LockLost(GONE.into())),
                    DrawingCommand::TooFew => return Err(failures.error(self)),
                };
                let (this, requests) = (Arc::clone(self), Arc::clone(&grant.requests));
                let is_reachable = reachable.contains(server);
                fanout.ask(server, async move {
                    match is_reachable {
                        true => (server, this.count(server, &requests, number).await),
                        false => (server, Err(this.too_few())),
                    }
                });
            }
            let is_step = matches!(commands.first(), Some(DrawingCommand::Step(_)));
            commands = loop {
                let next = match fanout.next().await {
                    Reply::Answer(server, counted) => match counted {
                        Err(error) => {
                            failures.add(server, error);
                            drawing.on_unknown(server)
                        }
                        Ok(Counted::At(number)) if is_step => drawing.on_step(server, Some(number)),
                        Ok(Counted::NotOwner) if is_step => drawing.on_step(server, None),
                        Ok(Counted::At(_)) => drawing.on_raise(server, Raised::Yes),
                        Ok(Counted::NotOwner) => drawing.on_raise(server, Raised::NotOwner),
                        Ok(Counted::Behind) => drawing.on_raise(server, Raised::Behind),
                    },
                    Reply::Silence => drawing.on_patience_over(),
                };
                if !next.is_empty() {
                    break next;
                }
            };
        }
    }

    async fn count(
        &self,
        server: ServerId,
        requests: &RoundRequests,
        number: Option<u64>,
    ) -> LockResult<Counted> {
        let number = number.map(|number| number.to_string()).unwrap_or_default();
        let keys = requests.key.on_each(requests.slot);
        let arguments = [requests.code, requests.owner.as_str(), &number];
        let run = Run { text: &QUORUM_TOKEN, keys: &keys, arguments: &arguments };
        let member = self.member(server);
        let reply = self.request_repaired(member, requests, run, Account::NoVote).await;
        let reply = match reply {
            // The key that held is another program's.
            Err(error) if error.find_source::<DamagedKey>().is_some() => {
                return Ok(Counted::NotOwner);
            }
            reply => reply?.0,
        };
        if reply == Value::Array(vec![Value::Int(3)]) {
            return Err(damage::exhausted(&member.client, requests.key.counter()));
        }
        counted(&reply)
    }
}

/// What a server's counter did.
enum Counted {
    At(u64),
    Behind,
    NotOwner,
}

fn counted(reply: &Value) -> LockResult<Counted> {
    let Value::Array(parts) = reply else { return Err(unexpected()) };
    match parts.as_slice() {
        [Value::Int(0)] => Ok(Counted::Behind),
        [Value::Int(2)] => Ok(Counted::NotOwner),
        [Value::Int(1), Value::BulkString(digits)] => {
            let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            number.map(Counted::At).ok_or_else(unexpected)
        }
        _ => Err(unexpected()),
    }
}
