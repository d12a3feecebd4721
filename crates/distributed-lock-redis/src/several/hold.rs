//! A lock held on a majority: its release and its fencing token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use distributed_lock_core::FencingToken;
use distributed_lock_core::clock::Moment;
use distributed_lock_core::driver::Lease;
use distributed_lock_core::error::{LockError, LockResult};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::Value;

use super::Several;
use super::acquire::QuorumAttempt;
use super::place::Ballot;
use super::undo::End;
use crate::driver::{GONE, unexpected};
use crate::redlock::drawing::{Drawing, DrawingCommand, Raised};
use crate::redlock::servers::{ServerId, ServerSet};
use crate::redlock::undoing::Undone;
use crate::script::{QUORUM_TOKEN, Run};

/// A lock held on a majority of the servers.
#[derive(Debug)]
pub(crate) struct QuorumGrant {
    pub(super) ballot: Ballot,
    deadline: AtomicU64,
    is_released: AtomicBool,
}

impl QuorumGrant {
    pub(super) fn new(attempt: &QuorumAttempt, mut ballot: Ballot, lease: Lease) -> Self {
        // Leaving those that have refused it.
        if !attempt.place.on_each.letterboxes.is_empty() {
            ballot.waiter = attempt.token().ok();
            ballot.asked = ballot.links.keys().copied().collect();
        }
        let deadline = AtomicU64::new(lease.deadline().as_nanos());
        Self { ballot, deadline, is_released: AtomicBool::new(false) }
    }

    pub(super) fn extend_to(&self, deadline: Moment) {
        self.deadline.fetch_max(deadline.as_nanos(), Ordering::Relaxed);
    }
}

impl Several {
    pub(crate) async fn release(self: &Arc<Self>, grant: &QuorumGrant) -> LockResult<()> {
        let was_sent = grant.is_released.swap(true, Ordering::Relaxed);
        let deadline = Moment::from_nanos(grant.deadline.load(Ordering::Relaxed));
        match self.undo(&grant.ballot, End::Whole).await {
            Undone::Released => Ok(()),
            // The first request has released it, and its reply was lost.
            Undone::Gone if was_sent && self.now() < deadline => Ok(()),
            Undone::Gone => Err(LockError::LockLost(GONE.into())),
            Undone::Unknown => Err(self.too_few()),
        }
    }

    /// Draws the fencing token of a held lock.
    pub(crate) async fn draw(self: &Arc<Self>, grant: &QuorumGrant) -> LockResult<FencingToken> {
        let (mut drawing, mut commands) = Drawing::begin(self.quorum);
        let reachable = self.reachable();
        loop {
            // What was asked before is of no more interest: its reply is not read.
            let mut asked = FuturesUnordered::new();
            let mut pending = ServerSet::NONE;
            for command in &commands {
                let (server, number) = match command {
                    DrawingCommand::Step(server) => (*server, None),
                    DrawingCommand::Raise(server, number) => (*server, Some(*number)),
                    DrawingCommand::Drawn(number) => return Ok(FencingToken(*number)),
                    DrawingCommand::Gone => return Err(LockError::LockLost(GONE.into())),
                    DrawingCommand::TooFew => return Err(self.too_few()),
                };
                pending.insert(server);
                let is_reachable = reachable.contains(server);
                asked.push(async move {
                    match is_reachable {
                        true => (server, self.count(server, grant, number).await),
                        false => (server, Err(self.too_few())),
                    }
                });
            }
            let mut patience = self.patience();
            let is_step = matches!(commands.first(), Some(DrawingCommand::Step(_)));
            commands = loop {
                let next = tokio::select! {
                    biased;
                    Some((server, counted)) = asked.next() => {
                        pending.remove(server);
                        match counted {
                            Err(_) => drawing.on_unknown(server),
                            Ok(Counted::At(number)) if is_step => {
                                drawing.on_step(server, Some(number))
                            }
                            Ok(Counted::NotOwner) if is_step => drawing.on_step(server, None),
                            Ok(Counted::At(_)) => drawing.on_raise(server, Raised::Yes),
                            Ok(Counted::NotOwner) => drawing.on_raise(server, Raised::NotOwner),
                            Ok(Counted::Behind) => drawing.on_raise(server, Raised::Behind),
                        }
                    }
                    () = patience.is_over(pending) => {
                        self.are_silent(pending);
                        drawing.on_patience_over()
                    }
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
        grant: &QuorumGrant,
        number: Option<u64>,
    ) -> LockResult<Counted> {
        let member = &self.members[usize::from(server.0)];
        let number = number.map(|number| number.to_string()).unwrap_or_default();
        let Ballot { keys, code, owner, .. } = &grant.ballot;
        let arguments = [*code, owner.as_str(), &number];
        let run = Run { text: &QUORUM_TOKEN, keys, arguments: &arguments };
        counted(&self.run(member, run, |_| ()).await?)
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
