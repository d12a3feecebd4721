//! Asking one server for its vote.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use distributed_lock_core::error::{LockError, LockResult};
use redis::{Cmd, Pipeline, Value};

use super::place::Ballot;
use super::{Member, Several};
use crate::driver::unexpected;
use crate::link::Link;
use crate::redlock::round::OwnerId;
use crate::redlock::servers::ServerId;
use crate::script::{QUORUM_ACQUIRE, Request, Run};

/// What one server said.
pub(super) enum Vote {
    Granted,
    Refused(OwnerId),
    GivenUp,
}

/// What a round asks with.
pub(super) struct Question {
    pub(super) ballot: Arc<Ballot>,
    /// As what it waits, and how many may hold it.
    waits_as: (&'static str, u32),
    /// The lock is held already, on others.
    is_again: bool,
    /// A free mutex is voted for without a script, which costs the server a third of the time.
    free: Option<Pipeline>,
}

impl Question {
    pub(super) fn new(ballot: Arc<Ballot>, waits_as: (&'static str, u32)) -> Self {
        Self { ballot, waits_as, is_again: false, free: None }
    }

    /// For a vote that a held lock does not have.
    pub(super) fn again(ballot: &Arc<Ballot>) -> Self {
        Self { is_again: true, ..Self::new(Arc::clone(ballot), (ballot.code, 1)) }
    }

    /// Of a lock that is most likely free: sets its key unless it is there, and looks whether anybody
    /// waits or was withdrawn. If somebody is or was, the script decides.
    pub(super) fn of_a_free_lock(ballot: Arc<Ballot>, lease_ms: &str) -> Self {
        let [mutex, waiters, _] = ballot.key.mutex_on_each(ballot.slot);
        let mut set = Cmd::with_capacity(6, 32 + mutex.len() + ballot.owner.len());
        set.arg("SET").arg(&mutex).arg(&ballot.owner).arg("NX").arg("PX").arg(lease_ms);
        let mut free = Pipeline::with_capacity(2);
        free.add_command(set).cmd("EXISTS").arg(waiters);
        Self { free: Some(free), ..Self::new(Arc::clone(&ballot), (ballot.code, 1)) }
    }
}

impl Several {
    /// The future lasts on its own: it goes on when the round is over.
    pub(super) async fn ask(
        self: Arc<Self>,
        server: ServerId,
        question: Arc<Question>,
    ) -> (ServerId, LockResult<Vote>) {
        (server, self.vote_of(self.member(server), &question).await)
    }

    pub(super) async fn vote_of(&self, member: &Member, question: &Question) -> LockResult<Vote> {
        let ballot = &question.ballot;
        let leaves = |link: &Link| question.is_again || ballot.may_leave(member.id, link.number);
        // Who may not run scripts could not give it back.
        if let Some(free) = question.free.as_ref().filter(|_| member.client.runs_scripts()) {
            let Value::Array(replies) = self.request(member, free, leaves).await? else {
                return Err(unexpected());
            };
            if replies == [Value::Okay, Value::Int(0)] {
                return Ok(Vote::Granted);
            }
        }
        let (waits_as, max) = question.waits_as;
        // Who holds it already takes no place in a queue.
        let waiter = if question.is_again { String::new() } else { ballot.waiter() };
        let (keys, max) = (ballot.key.on_each(ballot.slot), max.to_string());
        let arguments = [
            ballot.code,
            &ballot.owner,
            &max,
            &self.options.expiry_ms,
            &waiter,
            &self.options.period_ms,
            &member.client.channel,
            waits_as,
        ];
        let run = Run { text: &QUORUM_ACQUIRE, keys: &keys, arguments: &arguments };
        vote(&self.request(member, run, leaves).await?)
    }

    /// Makes a request to a server that counts; once more if its link turns out to be closed.
    pub(super) async fn request(
        &self,
        member: &Member,
        request: impl Into<Request<'_>>,
        may_leave: impl Fn(&Link) -> bool,
    ) -> LockResult<Value> {
        let request = request.into();
        let mut link = self.ready(member).await?;
        let mut result = Err(LockError::connection(RoundIsOver));
        for is_last in [false, true] {
            if !may_leave(&link) {
                break;
            }
            result = member.client.request_on(&link, request).await;
            let is_closed = matches!(result, Err(LockError::Connection(_))) && link.is_broken();
            if is_last || !is_closed {
                break;
            }
            link = self.ready(member).await?;
        }
        if !matches!(result, Err(LockError::Connection(_))) {
            member.is_back();
        }
        result
    }
}

/// Why a request did not leave.
#[derive(Debug)]
struct RoundIsOver;

impl fmt::Display for RoundIsOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the round was decided before this server was asked")
    }
}

impl std::error::Error for RoundIsOver {}

fn vote(reply: &Value) -> LockResult<Vote> {
    let Value::Array(parts) = reply else { return Err(unexpected()) };
    match parts.as_slice() {
        [Value::Int(1)] => Ok(Vote::Granted),
        [Value::Int(2)] => Ok(Vote::GivenUp),
        [Value::Int(0), Value::BulkString(owner)] => {
            let mut hasher = DefaultHasher::new();
            owner.hash(&mut hasher);
            Ok(Vote::Refused(OwnerId(hasher.finish())))
        }
        _ => Err(unexpected()),
    }
}
