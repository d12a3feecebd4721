//! Asking one server for its vote.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use distributed_lock_core::error::{LockError, LockResult};
use redis::{Pipeline, Value};

use super::place::RoundRequests;
use super::{Member, Several};
use crate::damage;
use crate::driver::unexpected;
use crate::failure::is_wrong_type;
use crate::free::{self, Outcome};
use crate::redlock::round::{LinkCommand, LinkEvent, OwnerId};
use crate::redlock::sent::{Effect, LinkId};
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
    pub(super) requests: Arc<RoundRequests>,
    /// As what it waits, and how many may hold it.
    waits_as: (&'static str, u32),
    /// The lock is held already, on others.
    is_again: bool,
    /// A free mutex is voted for without a script, which costs the server a third of the time.
    free: Option<Pipeline>,
}

impl Question {
    pub(super) fn new(requests: Arc<RoundRequests>, waits_as: (&'static str, u32)) -> Self {
        Self { requests, waits_as, is_again: false, free: None }
    }

    /// For a vote that a held lock does not have.
    pub(super) fn again(requests: &Arc<RoundRequests>) -> Self {
        Self { is_again: true, ..Self::new(Arc::clone(requests), (requests.code, 1)) }
    }

    /// Of a lock that is most likely free: sets its key and the record of its lease unless they are there,
    /// and looks whether others wait or were withdrawn. If so, the script decides.
    pub(super) fn of_a_free_lock(requests: Arc<RoundRequests>, lease_ms: &str) -> Self {
        let keys = requests.key.mutex_on_each(requests.slot);
        let free = free::commands(&keys, &requests.owner, lease_ms);
        Self { free: Some(free), ..Self::new(Arc::clone(&requests), (requests.code, 1)) }
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
        let requests = &question.requests;
        let account = match question.is_again {
            true => Account::Again(requests),
            false => Account::Round(requests),
        };
        // A user who may not run scripts could not give it back.
        if let Some(free) = question.free.as_ref().filter(|_| member.client.runs_scripts()) {
            let (reply, link) = self.request(member, free, account).await?;
            let outcome = Outcome::of(&reply);
            let effect = match outcome {
                Outcome::Held => Effect::NoVote,
                Outcome::Taken | Outcome::InDoubt => Effect::MayHaveVoted,
            };
            account.is_answered(member.id, link, effect);
            if outcome == Outcome::Taken {
                return Ok(Vote::Granted);
            }
        }
        let (waits_as, max) = question.waits_as;
        // A holder takes no position in a queue.
        let waiter = if question.is_again { String::new() } else { requests.waiter() };
        let (keys, max) = (requests.key.on_each(requests.slot), max.to_string());
        let arguments = [
            requests.code,
            &requests.owner,
            &max,
            &self.options.expiry_ms,
            &waiter,
            &self.options.period_ms,
            &member.client.channel,
            waits_as,
        ];
        let run = Run { text: &QUORUM_ACQUIRE, keys: &keys, arguments: &arguments };
        let (reply, link) = self.request_repaired(member, requests, run, account).await?;
        let vote = vote(&reply);
        let effect = match &vote {
            Ok(Vote::Refused(_) | Vote::GivenUp) => Effect::NoVote,
            Ok(Vote::Granted) | Err(_) => Effect::MayHaveVoted,
        };
        account.is_answered(member.id, link, effect);
        vote
    }

    /// Makes a request over one resource to a server that counts. Keys of another type are removed if no
    /// holder depends on them, and the request is made once more.
    pub(super) async fn request_repaired(
        &self,
        member: &Member,
        requests: &RoundRequests,
        run: Run<'_>,
        account: Account<'_>,
    ) -> LockResult<(Value, LinkId)> {
        match self.request(member, run, account).await {
            Err(error) if is_wrong_type(&error) => {
                damage::repair(&member.client, run.keys, requests.code).await?;
                self.request(member, run, account).await
            }
            reply => reply,
        }
    }

    /// Makes a request to a server that counts; once more if its link turns out to be closed. Returns
    /// the reply and the link that it came on.
    pub(super) async fn request(
        &self,
        member: &Member,
        request: impl Into<Request<'_>>,
        account: Account<'_>,
    ) -> LockResult<(Value, LinkId)> {
        let request = request.into();
        let mut link = self.ready(member).await?;
        let mut result = Err(LockError::connection(RoundIsOver));
        for is_last in [false, true] {
            if !account.may_leave(member.id, link.id()) {
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
        if matches!(result, Err(LockError::Backend(_))) {
            // It may have failed half way.
            account.is_answered(member.id, link.id(), Effect::MayHaveVoted);
        }
        result.map(|reply| (reply, link.id()))
    }
}

/// Who keeps account of a request.
#[derive(Clone, Copy)]
pub(super) enum Account<'a> {
    /// A round that asks for votes.
    Round(&'a RoundRequests),
    /// A held lock that asks for a vote which it does not have.
    Again(&'a RoundRequests),
    /// Not needed: the request gives no vote.
    NoVote,
}

impl Account<'_> {
    /// Whether a request may leave on a link. If so, it must leave at once.
    fn may_leave(self, server: ServerId, link: LinkId) -> bool {
        let command = match self {
            Self::Round(requests) => requests.on_link(LinkEvent::Ask(server, link)),
            Self::Again(requests) => requests.on_link(LinkEvent::AskAgain(server, link)),
            Self::NoVote => Some(LinkCommand::Ask),
        };
        command == Some(LinkCommand::Ask)
    }

    fn is_answered(self, server: ServerId, link: LinkId, effect: Effect) {
        let command = match self {
            Self::Round(requests) => requests.on_link(LinkEvent::Answered(server, link, effect)),
            Self::Again(requests) => requests.on_link(LinkEvent::AnsweredAgain(server, effect)),
            Self::NoVote => None,
        };
        debug_assert_eq!(command, None, "an answer is followed by nothing on its link");
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
