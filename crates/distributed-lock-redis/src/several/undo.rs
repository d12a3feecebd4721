//! Taking back votes: of rounds that were not won, of attempts that were given up, of holds.

use std::sync::Arc;
use std::time::Duration;

use distributed_lock_core::Mode;
use distributed_lock_core::error::LockResult;
use redis::Value;
use tokio::time::{Instant, sleep_until};

use super::acquire::QuorumAttempt;
use super::failures::Failures;
use super::fanout::{Fanout, Reply};
use super::place::{OpenRound, QuorumPlace, RoundRequests};
use super::{Member, Several};
use crate::link::Link;
use crate::redlock::servers::{ServerId, ServerSet};
use crate::redlock::tally::Answer;
use crate::redlock::undoing::{Undoing, Undone};
use crate::script::{QUORUM_UNDO, RELEASE_ALONE, Run};

/// What ends when votes are taken back.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum End {
    /// A round, by an attempt that goes on: nobody else has it any sooner, so nobody is told.
    Round,
    /// A hold or an attempt: whose turn it may be is told.
    Whole,
    /// A hold that most likely nobody waits for. Nobody is in a hurry to have it on every server, so
    /// only a majority is waited for.
    Alone,
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
            let slot = matches!(attempt.mode, Mode::Permit { .. }).then_some(0);
            // Who is away forgets it by itself, since it does not tick any more.
            let places =
                RoundRequests::in_queues((attempt.key.clone(), slot), token, self.reachable());
            place.rounds.push(OpenRound::new(self, &Arc::new(places)));
        }
        self.undo_open(place, End::Whole).await;
        Ok(())
    }

    /// Undoes every round that was dropped or overtaken. Their requests on the links in use are undone
    /// before anything that leaves on these links later; those elsewhere find a tombstone.
    pub(super) async fn undo_open(self: &Arc<Self>, place: &mut QuorumPlace, end: End) {
        // Each stays until it is undone, in case this future is dropped.
        while let Some(open) = place.rounds.last() {
            if let Some(requests) = open.requests() {
                self.undo(requests, end).await;
            }
            place.rounds.pop().into_iter().for_each(OpenRound::settle);
        }
    }

    /// Takes back every vote that there may be. Waits until a majority has none, and a moment more
    /// for the others; those who take longer, or are away, are seen to in the background.
    pub(super) async fn undo(
        self: &Arc<Self>,
        requests: &Arc<RoundRequests>,
        end: End,
    ) -> (Undone, Failures) {
        requests.is_undone();
        let mut undoing = Undoing::everywhere(self.quorum);
        let reachable = self.reachable();
        let has_places = requests.waiter.is_some() && end != End::Round;
        let asked = if has_places { requests.asked() } else { requests.may_be_on() };
        let (mut result, mut failures) = (None, Failures::default());
        // A vote that nobody knows of may decide: every server has the time of all.
        let mut fanout = Fanout::of_all(self);
        let mut left = asked;
        for server in self.quorum.all().iter() {
            let answer = match (asked.contains(server), reachable.contains(server)) {
                (true, true) => {
                    let undo = Arc::clone(self).undo_on(server, Arc::clone(requests), end);
                    fanout.ask(server, undo);
                    continue;
                }
                (true, false) => Answer::Unknown,
                (false, _) => Answer::No,
            };
            result = result.or(undoing.on_answer(server, answer));
        }
        // Who did not answer the round is not waited for a second time.
        let awaited = match end {
            End::Round => asked.without(requests.unanswered()),
            End::Whole | End::Alone => asked,
        };
        let began = Instant::now();
        while !fanout.pending().is_empty() {
            let is_enough = result.is_some() || awaited.and(fanout.pending()).is_empty();
            let moment = async {
                if end != End::Alone {
                    sleep_until(began + began.elapsed() * 2 + MOMENT).await;
                }
            };
            tokio::select! {
                biased;
                () = moment, if is_enough => {
                    let servers = fanout.pending();
                    left = left.without(servers);
                    let several = Arc::clone(self);
                    let mut rest = Unconfirmed { several, requests: Arc::clone(requests), servers };
                    let heard = move |server, answer| rest.hears(server, &answer);
                    drop(tokio::spawn(fanout.drain(heard)));
                    break;
                }
                heard = fanout.next() => match heard {
                    Reply::Answer(server, answer) => {
                        let answer = match answer {
                            Ok(answer) => {
                                left.remove(server);
                                answer
                            }
                            Err(error) => {
                                failures.add(server, error);
                                Answer::Unknown
                            }
                        };
                        result = result.or(undoing.on_answer(server, answer));
                    }
                    Reply::Silence => break,
                },
            }
        }
        self.collect_later(requests, left);
        let undone = result.or(undoing.on_patience_over()).unwrap_or(Undone::Unknown);
        (undone, failures)
    }

    /// Takes back one server's vote. A server that does not count is asked too.
    async fn undo_on(
        self: Arc<Self>,
        server: ServerId,
        requests: Arc<RoundRequests>,
        end: End,
    ) -> (ServerId, LockResult<Answer>) {
        let member = self.member(server);
        let undone = async {
            let link = member.link().await?;
            match self.undo_over(&link, member, &requests, end).await {
                Err(_) if link.is_broken() => {}
                result => return result,
            }
            self.undo_over(&*member.link().await?, member, &requests, end).await
        };
        (server, undone.await)
    }

    pub(super) async fn undo_over(
        &self,
        link: &Link,
        member: &Member,
        requests: &RoundRequests,
        end: End,
    ) -> LockResult<Answer> {
        let may_come_later = requests.may_come_after(member.id, link.id());
        if end == End::Alone && !may_come_later {
            let keys = requests.key.mutex_on_each(requests.slot);
            let run = Run { text: &RELEASE_ALONE, keys: &keys, arguments: &[&requests.owner] };
            match member.client.request_on(link, run).await? {
                Value::Int(1) => return Ok(Answer::Yes),
                Value::Int(2) => self.contended.saw_others(&requests.key),
                _ => return Ok(Answer::No),
            }
        }
        let tombstone = match may_come_later {
            true => self.options.expiry.max(Duration::from_secs(60)).as_millis().to_string(),
            false => "0".to_owned(),
        };
        let (waiter, tells) = match end {
            End::Round => (String::new(), "0"),
            End::Whole | End::Alone => (requests.waiter(), "1"),
        };
        let keys = requests.key.on_each(requests.slot);
        let arguments = [requests.code, &requests.owner, &tombstone, &waiter, tells];
        let run = Run { text: &QUORUM_UNDO, keys: &keys, arguments: &arguments };
        match member.client.request_on(link, run).await? {
            Value::Int(1) => Ok(Answer::Yes),
            _ => Ok(Answer::No),
        }
    }
}

/// Who has not confirmed yet, and is not waited for. Dropped at any moment, also before its task has
/// run, those are asked again in the background.
struct Unconfirmed {
    several: Arc<Several>,
    requests: Arc<RoundRequests>,
    servers: ServerSet,
}

impl Unconfirmed {
    fn hears(&mut self, server: ServerId, answer: &LockResult<Answer>) {
        if answer.is_ok() {
            self.servers.remove(server);
        }
    }
}

impl Drop for Unconfirmed {
    fn drop(&mut self) {
        self.several.collect_later(&self.requests, self.servers);
    }
}
