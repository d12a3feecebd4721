//! Taking back votes: of rounds that were not won, of attempts that were given up, of holds.

use std::sync::Arc;
use std::time::Duration;

use distributed_lock_core::Mode;
use distributed_lock_core::error::LockResult;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::Value;
use tokio::time::{Instant, sleep_until};

use super::acquire::QuorumAttempt;
use super::patience::Patience;
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

/// How long those are waited for whose answers come a little after the others'.
const MOMENT: Duration = Duration::from_millis(2);

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

    /// Takes back every vote that there may be. Waits until a majority has none, and a moment more
    /// for the others; those who take longer, or are away, are seen to in the background.
    pub(super) async fn undo(self: &Arc<Self>, ballot: &Ballot, end: End) -> Undone {
        let mut undoing = Undoing::everywhere(self.quorum);
        let reachable = self.reachable();
        let ballot = Arc::new(ballot.clone());
        let mut left = ballot.asked;
        let mut result = None;
        let mut asked = FuturesUnordered::new();
        let mut pending = ServerSet::NONE;
        for server in self.quorum.all().iter() {
            let answer = match (ballot.asked.contains(server), reachable.contains(server)) {
                (true, true) => {
                    asked.push(Arc::clone(self).undo_on(server, Arc::clone(&ballot), end));
                    pending.insert(server);
                    continue;
                }
                (true, false) => Answer::Unknown,
                (false, _) => Answer::No,
            };
            result = result.or(undoing.on_answer(server, answer));
        }
        // Who did not answer the round is not waited for a second time.
        let awaited = match end {
            End::Round => ballot.asked.without(ballot.unanswered),
            End::Whole => ballot.asked,
        };
        let began = Instant::now();
        let mut patience = self.patience();
        while !pending.is_empty() {
            let is_enough = result.is_some() || awaited.without(pending) == awaited;
            let moment = sleep_until(began + began.elapsed() * 2 + MOMENT);
            tokio::select! {
                biased;
                Some((server, answer)) = asked.next() => {
                    pending.remove(server);
                    if answer != Answer::Unknown {
                        left.remove(server);
                    }
                    result = result.or(undoing.on_answer(server, answer));
                }
                () = moment, if is_enough => {
                    left = left.without(pending);
                    let left = Unconfirmed {
                        this: Arc::clone(self),
                        ballot: Arc::clone(&ballot),
                        servers: pending,
                    };
                    drop(tokio::spawn(left.see_to(asked, patience)));
                    break;
                }
                // A vote that nobody knows of may decide.
                () = patience.is_over(self.quorum.all()) => {
                    self.are_silent(pending);
                    break;
                }
            }
        }
        self.collect_later(&ballot, left);
        result.or(undoing.on_patience_over()).unwrap_or(Undone::Unknown)
    }

    /// Takes back one server's vote. A server that does not count is asked too.
    async fn undo_on(
        self: Arc<Self>,
        server: ServerId,
        ballot: Arc<Ballot>,
        end: End,
    ) -> (ServerId, Answer) {
        let member = &self.members[usize::from(server.0)];
        for is_last in [false, true] {
            let Ok(link) = member.link().await else { break };
            match self.undo_over(&link, member, &ballot, end).await {
                Ok(answer) => return (server, answer),
                Err(_) if link.is_broken() && !is_last => {}
                Err(_) => break,
            }
        }
        (server, Answer::Unknown)
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

/// Who has not confirmed yet, and is not waited for. Dropped at any moment, also before its task has
/// run, those are asked again in the background.
struct Unconfirmed {
    this: Arc<Several>,
    ballot: Arc<Ballot>,
    servers: ServerSet,
}

impl Unconfirmed {
    async fn see_to<F>(mut self, mut asked: FuturesUnordered<F>, mut patience: Patience)
    where
        F: Future<Output = (ServerId, Answer)>,
    {
        let mut pending = self.servers;
        while !pending.is_empty() {
            tokio::select! {
                biased;
                Some((server, answer)) = asked.next() => {
                    pending.remove(server);
                    if answer != Answer::Unknown {
                        self.servers.remove(server);
                    }
                }
                () = patience.is_over(pending) => {
                    self.this.are_silent(pending);
                    break;
                }
            }
        }
    }
}

impl Drop for Unconfirmed {
    fn drop(&mut self) {
        self.this.collect_later(&self.ballot, self.servers);
    }
}
