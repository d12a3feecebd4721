//! Taking back votes: of rounds that were not won, of attempts that were given up, of holds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use distributed_lock_core::Mode;
use distributed_lock_core::background::spawn_to_the_end;
use distributed_lock_core::error::LockResult;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::Value;

use super::acquire::QuorumAttempt;
use super::place::Ballot;
use super::{Member, Several};
use crate::redlock::servers::{ServerId, ServerSet};
use crate::redlock::tally::Answer;
use crate::script::{QUORUM_UNDO, Run};

impl Several {
    /// Undoes an attempt that was given up.
    pub(crate) async fn withdraw(&self, attempt: &mut QuorumAttempt) -> LockResult<()> {
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
                asked: self.quorum.all(),
                unanswered: ServerSet::NONE,
                links: Default::default(),
                waiter: Some(token),
            });
        }
        while let Some(ballot) = place.rounds.pop() {
            // It stays until it is undone, in case this future is dropped.
            place.rounds.push(ballot.clone());
            let left = self.undo(&ballot, &ballot.waiter(), ballot.asked).await;
            place.rounds.pop();
            if !left.asked.is_empty() {
                place.rounds.push(left);
                return Err(self.too_few());
            }
        }
        Ok(())
    }

    /// Takes back the votes of a round that was not won; the attempt may go on waiting. Those who had
    /// granted it are waited for; requests to the others are on their way. Returns who has not
    /// confirmed it.
    pub(super) async fn undo_round(&self, ballot: Ballot) -> Ballot {
        self.undo(&ballot, "", ballot.asked.without(ballot.unanswered)).await
    }

    /// Waits until `these` have confirmed it, or do not within the time that a server has.
    async fn undo(&self, ballot: &Ballot, waiter: &str, these: ServerSet) -> Ballot {
        let mut left = ballot.clone();
        let asked = self.members.iter().filter(|member| ballot.asked.contains(member.id));
        let mut asked: FuturesUnordered<_> =
            asked.map(|member| self.undo_on(member, ballot, waiter)).collect();
        let patience = tokio::time::sleep(self.timing.patience);
        tokio::pin!(patience);
        loop {
            tokio::select! {
                biased;
                answer = asked.next() => match answer {
                    Some((_, Answer::Unknown)) => {}
                    Some((server, _)) => left.asked.remove(server),
                    None => break,
                },
                () = &mut patience => break,
            }
            if these.without(these.without(left.asked)).is_empty() {
                break;
            }
        }
        left
    }

    /// Takes back one server's vote. A server that does not count is asked too.
    pub(super) async fn undo_on(
        &self,
        member: &Member,
        ballot: &Ballot,
        waiter: &str,
    ) -> (ServerId, Answer) {
        for is_last in [false, true] {
            let Ok(link) = member.client.link().await else { break };
            let tombstone = match ballot.may_come_after(member.id, &link) {
                true => self.options.expiry.max(Duration::from_secs(60)).as_millis().to_string(),
                false => "0".to_owned(),
            };
            let arguments = [ballot.code, &ballot.owner, &tombstone, waiter];
            let run = Run { text: &QUORUM_UNDO, keys: &ballot.keys, arguments: &arguments };
            match member.client.run_on(&link, run).await {
                Ok(Value::Int(1)) => return (member.id, Answer::Yes),
                Ok(_) => return (member.id, Answer::No),
                Err(_) if link.is_broken() && !is_last => {}
                Err(_) => break,
            }
        }
        (member.id, Answer::Unknown)
    }

    /// Goes on until every server has confirmed it, or what it may have there has run out.
    pub(super) fn undo_in_background(self: &Arc<Self>, left: Ballot) {
        if left.asked.is_empty() {
            return;
        }
        let ends = self.timing.all_over(self.now());
        let this = Arc::clone(self);
        let left = Arc::new(Mutex::new(left));
        spawn_to_the_end(self.home, move || {
            let (this, left) = (Arc::clone(&this), Arc::clone(&left));
            Box::pin(async move {
                while this.now() < ends {
                    let ballot = left.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let after = this.undo(&ballot, &ballot.waiter(), ballot.asked).await;
                    if after.asked.is_empty() {
                        return;
                    }
                    *left.lock().unwrap_or_else(PoisonError::into_inner) = after;
                    tokio::time::sleep(this.options.fallback_period()).await;
                }
            })
        });
    }
}
