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

use super::acquire::QuorumAttempt;
use super::place::Ballot;
use super::{Member, Several};
use crate::driver::{GONE, unexpected};
use crate::redlock::drawing::{Drawing, DrawingCommand, Raised};
use crate::redlock::servers::ServerId;
use crate::redlock::undoing::{Undoing, Undone};
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
        // The release leaves the queues too.
        ballot.waiter = match attempt.place.on_each.letterboxes.is_empty() {
            true => None,
            false => attempt.token().ok(),
        };
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
        let waiter = grant.ballot.waiter();
        let mut undoing = Undoing::everywhere(self.quorum);
        let mut asked: FuturesUnordered<_> = self
            .members
            .iter()
            .map(|member| self.undo_on(member, &grant.ballot, &waiter))
            .collect();
        // A majority decides, so one that hangs costs nothing; the engine waits no longer either.
        let patience = tokio::time::sleep(self.operation_timeout * 3 / 4);
        tokio::pin!(patience);
        let undone = loop {
            let undone = tokio::select! {
                biased;
                Some((server, answer)) = asked.next() => undoing.on_answer(server, answer),
                () = &mut patience => undoing.on_patience_over(),
            };
            if let Some(undone) = undone {
                break undone;
            }
        };
        // Requests to those who are left are on their way; what fails is tried again.
        let mut left = grant.ballot.clone();
        left.asked = undoing.left();
        match undone {
            Undone::Unknown => Err(self.too_few()),
            Undone::Gone if !(was_sent && self.now() < deadline) => {
                self.undo_in_background(left);
                Err(LockError::LockLost(GONE.into()))
            }
            Undone::Released | Undone::Gone => {
                self.undo_in_background(left);
                Ok(())
            }
        }
    }

    /// Draws the fencing token of a held lock.
    pub(crate) async fn draw(&self, grant: &QuorumGrant) -> LockResult<FencingToken> {
        let (mut drawing, mut commands) = Drawing::begin(self.quorum);
        let patience = tokio::time::sleep(self.timing.patience);
        tokio::pin!(patience);
        loop {
            // What was asked before is of no more interest: its reply is not read.
            let mut asked = FuturesUnordered::new();
            for command in &commands {
                match command {
                    DrawingCommand::Step(server) => asked.push(self.count(*server, grant, None)),
                    DrawingCommand::Raise(server, number) => {
                        asked.push(self.count(*server, grant, Some(*number)));
                    }
                    DrawingCommand::Drawn(number) => return Ok(FencingToken(*number)),
                    DrawingCommand::Gone => return Err(LockError::LockLost(GONE.into())),
                    DrawingCommand::TooFew => return Err(self.too_few()),
                }
            }
            patience.as_mut().reset(tokio::time::Instant::now() + self.timing.patience);
            let is_step = matches!(commands.first(), Some(DrawingCommand::Step(_)));
            commands = loop {
                let next = tokio::select! {
                    biased;
                    Some((server, counted)) = asked.next() => match counted {
                        Err(_) => drawing.on_unknown(server),
                        Ok(Counted::At(number)) if is_step => drawing.on_step(server, Some(number)),
                        Ok(Counted::NotOwner) if is_step => drawing.on_step(server, None),
                        Ok(Counted::At(_)) => drawing.on_raise(server, Raised::Yes),
                        Ok(Counted::NotOwner) => drawing.on_raise(server, Raised::NotOwner),
                        Ok(Counted::Behind) => drawing.on_raise(server, Raised::Behind),
                    },
                    () = &mut patience => drawing.on_patience_over(),
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
    ) -> (ServerId, LockResult<Counted>) {
        let member: &Member = &self.members[usize::from(server.0)];
        let number = number.map(|number| number.to_string()).unwrap_or_default();
        let Ballot { keys, code, owner, .. } = &grant.ballot;
        let arguments = [*code, owner.as_str(), &self.options.expiry_ms, &number];
        let run = Run { text: &QUORUM_TOKEN, keys, arguments: &arguments };
        let reply = self.run(member, run, |_| ()).await;
        (server, reply.and_then(|reply| counted(&reply)))
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
