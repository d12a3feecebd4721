//! Taking back votes: of rounds that were not won, of attempts that were given up, of holds.

use std::sync::Arc;
use std::time::Duration;

use distributed_lock_core::Mode;
use distributed_lock_core::error::LockResult;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::Value;

use super::acquire::QuorumAttempt;
use super::place::Ballot;
use super::{Member, Several};
use crate::link::Link;
use crate::redlock::servers::{ServerId, ServerSet};
use crate::redlock::tally::Answer;
use crate::redlock::undoing::{Undoing, Undone};
use crate::script::{QUORUM_UNDO, Run};

/// What ends when votes are taken back.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum End {
    /// A round, by an attempt that goes on: nobody else has it any sooner, so nobody is told.
    Round,
    /// A hold or an attempt: whose turn it may be is told.
    Whole,
}

impl Several {
    /// Undoes an attempt that was given up.
    pub(crate) async fn withdraw(self: &Arc<Self>, attempt: &mut QuorumAttempt) -> LockResult<()> {
        let token = attempt.token()?;
        let place = &mut attempt.place.on_each;
        if !place.letterboxes.is_empty() {
            place.letterboxes.clear();
            // It has a place in the queues of those, too, who have refused it: that goes with a vote
            // which it does not have.
            let mode = attempt.mode;
            place.rounds.push(Ballot {
                keys: attempt.key.on_each(matches!(mode, Mode::Permit { .. }).then_some(0)),
                code: "x",
                owner: token.to_string(),
                // Who is away forgets it by itself, since it does not tick any more.
                asked: self.reachable(),
                unanswered: ServerSet::NONE,
                links: Default::default(),
                waiter: Some(token),
            });
        }
        // Each stays until it is undone, in case this future is dropped.
        while let Some(ballot) = place.rounds.last() {
            self.undo(ballot, End::Whole).await;
            place.rounds.pop();
        }
        Ok(())
    }

    /// Takes back every vote that there may be, and waits until all who are known to answer have
    /// confirmed it. Those who do not within their time are asked again in the background.
    pub(super) async fn undo(self: &Arc<Self>, ballot: &Ballot, end: End) -> Undone {
        let mut undoing = Undoing::everywhere(self.quorum);
        let reachable = self.reachable();
        let mut result = None;
        let mut asked = FuturesUnordered::new();
        for member in &self.members {
            let answer = match (ballot.asked.contains(member.id), reachable.contains(member.id)) {
                (true, true) => {
                    asked.push(self.undo_on(member, ballot, end));
                    continue;
                }
                (true, false) => Answer::Unknown,
                (false, _) => Answer::No,
            };
            result = result.or(undoing.on_answer(member.id, answer));
        }
        let mut pending = ballot.asked.without(ballot.asked.without(reachable));
        let mut owing = ballot.asked.without(pending);
        let mut patience = self.patience();
        while !pending.is_empty() {
            tokio::select! {
                biased;
                Some((server, answer)) = asked.next() => {
                    pending.remove(server);
                    if answer == Answer::Unknown {
                        owing.insert(server);
                    }
                    result = result.or(undoing.on_answer(server, answer));
                }
                () = patience.is_over(pending) => break,
            }
        }
        self.are_silent(pending);
        self.collect_later(ballot, owing.or(pending));
        result.or(undoing.on_patience_over()).unwrap_or(Undone::Unknown)
    }

    /// Takes back one server's vote. A server that does not count is asked too.
    async fn undo_on(&self, member: &Member, ballot: &Ballot, end: End) -> (ServerId, Answer) {
        for is_last in [false, true] {
            let Ok(link) = member.link().await else { break };
            match self.undo_over(&link, member, ballot, end).await {
                Ok(answer) => return (member.id, answer),
                Err(_) if link.is_broken() && !is_last => {}
                Err(_) => break,
            }
        }
        (member.id, Answer::Unknown)
    }

    pub(super) async fn undo_over(
        &self,
        link: &Link,
        member: &Member,
        ballot: &Ballot,
        end: End,
    ) -> LockResult<Answer> {
        let tombstone = match ballot.may_come_after(member.id, link) {
            true => self.options.expiry.max(Duration::from_secs(60)).as_millis().to_string(),
            false => "0".to_owned(),
        };
        let (waiter, tells) = match end {
            End::Round => (String::new(), "0"),
            End::Whole => (ballot.waiter(), "1"),
        };
        let arguments = [ballot.code, &ballot.owner, &tombstone, &waiter, tells];
        let run = Run { text: &QUORUM_UNDO, keys: &ballot.keys, arguments: &arguments };
        match member.client.run_on(link, run).await? {
            Value::Int(1) => Ok(Answer::Yes),
            _ => Ok(Answer::No),
        }
    }
}
