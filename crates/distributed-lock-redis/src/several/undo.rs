//! Taking back votes: of rounds that were not won, of attempts that were given up, of holds.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use distributed_lock_core::Mode;
use distributed_lock_core::error::{LockError, LockResult};
use redis::Value;
use tokio::time::{Instant, sleep_until};

use super::acquire::QuorumAttempt;
use super::failures::Failures;
use super::fanout::{Fanout, Reply};
use super::place::{OpenRound, QuorumPlace, RoundRequests};
use super::{Member, Several};
use crate::damage::{self, DamagedKey};
use crate::driver::unexpected;
use crate::failure::is_wrong_type;
use crate::link::Link;
use crate::redlock::release::{QuorumRelease, ReleaseCommand, ReleaseEvent, Undone};
use crate::redlock::round::{LinkCommand, LinkEvent, Round, RoundEnd};
use crate::redlock::servers::{ServerId, ServerSet};
use crate::redlock::tally::Answer;
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
            let round = Round::of_positions(self.quorum, self.timing, self.reachable());
            let (key, owner) = ((attempt.key.clone(), slot), ("x", token.to_string()));
            let positions = RoundRequests::new(key, owner, Some(token), round);
            place.rounds.push(OpenRound::new(self, &Arc::new(positions)));
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

    /// Ends a round and takes back every vote that there may be.
    pub(super) async fn undo(
        self: &Arc<Self>,
        requests: &Arc<RoundRequests>,
        end: End,
    ) -> (Undone, Failures) {
        let servers = requests.end(match end {
            End::Round => RoundEnd::Dropped,
            End::Whole | End::Alone => RoundEnd::Whole,
        });
        self.undo_on_each(requests, servers, end).await
    }

    /// Undoes a round on these servers. Waits until a majority has no vote, and a moment more for the
    /// others; those that take longer, or cannot be reached, are undone in the background.
    pub(super) async fn undo_on_each(
        self: &Arc<Self>,
        requests: &Arc<RoundRequests>,
        servers: ServerSet,
        end: End,
    ) -> (Undone, Failures) {
        let mut undo = Undo::of(self, requests, servers);
        // A vote that nobody knows of may decide: every server has the time of all.
        let mut fanout = Fanout::of_all(self);
        let asked = servers.and(self.reachable());
        for server in asked.iter() {
            fanout.ask(server, Arc::clone(self).undo_on(server, Arc::clone(requests), end));
        }
        servers.without(asked).iter().for_each(|server| undo.failed(server));
        // A server that did not answer the round is not waited for a second time.
        let awaited = match end {
            End::Round => asked.without(requests.unanswered()),
            End::Whole | End::Alone => asked,
        };
        let began = Instant::now();
        while !fanout.pending().is_empty() {
            let is_enough = undo.result.is_some() || awaited.and(fanout.pending()).is_empty();
            let moment = async {
                if end != End::Alone {
                    sleep_until(began + began.elapsed() * 2 + MOMENT).await;
                }
            };
            tokio::select! {
                biased;
                () = moment, if is_enough => {
                    let outcome = (undo.undone(), std::mem::take(&mut undo.failures));
                    let mut rest = Unconfirmed(undo);
                    let heard = move |server, answer| rest.0.takes(server, answer);
                    drop(tokio::spawn(fanout.drain(heard)));
                    return outcome;
                }
                heard = fanout.next() => match heard {
                    Reply::Answer(server, answer) => undo.takes(server, answer),
                    Reply::Silence => {
                        undo.failures.add_silent(fanout.pending(), began.elapsed());
                        fanout.pending().iter().for_each(|server| undo.failed(server));
                        break;
                    }
                },
            }
        }
        (undo.undone(), undo.failures)
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
            requests.may_be_undone.store(true, Ordering::Relaxed);
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
        let undo = requests.on_link(LinkEvent::Undo(member.id, link.id()));
        let may_come_later = match undo {
            Some(LinkCommand::Undo { tombstone }) => tombstone,
            Some(LinkCommand::Ask) | None => return Err(unexpected()),
        };
        if end == End::Alone && !may_come_later {
            let keys = requests.key.mutex_on_each(requests.slot);
            let run = Run { text: &RELEASE_ALONE, keys: &keys, arguments: &[&requests.owner] };
            match member.client.request_on(link, run).await {
                Ok(Value::Int(1)) => return Ok(Answer::Yes),
                Ok(Value::Int(2)) => self.contended.saw_others(&requests.key),
                Err(error) if !is_wrong_type(&error) => return Err(error),
                Ok(_) => return Ok(Answer::No),
                Err(_) => {}
            }
        }
        let tombstone = self.options.tombstone(may_come_later);
        let (waiter, tells) = match end {
            End::Round => (String::new(), "0"),
            End::Whole | End::Alone => (requests.waiter(), "1"),
        };
        let keys = requests.key.on_each(requests.slot);
        let arguments = [requests.code, &requests.owner, &tombstone, &waiter, tells];
        let run = Run { text: &QUORUM_UNDO, keys: &keys, arguments: &arguments };
        let reply = match member.client.request_on(link, run).await {
            Err(error) if is_wrong_type(&error) => {
                match damage::repair(&member.client, &keys, requests.code).await {
                    // The key that held is another program's, and no request can make it the caller's again.
                    Err(error) if is_damaged(&error) && !may_come_later => return Ok(Answer::No),
                    repaired => repaired?,
                }
                member.client.request_on(link, run).await?
            }
            reply => reply?,
        };
        match reply {
            Value::Int(1) => Ok(Answer::Yes),
            _ => Ok(Answer::No),
        }
    }
}

fn is_damaged(error: &LockError) -> bool {
    error.find_source::<DamagedKey>().is_some()
}

/// A round that is being undone: carries out what the machine commands.
pub(super) struct Undo {
    several: Arc<Several>,
    requests: Arc<RoundRequests>,
    release: QuorumRelease,
    result: Option<Undone>,
    failures: Failures,
}

impl Undo {
    pub(super) fn of(
        several: &Arc<Several>,
        requests: &Arc<RoundRequests>,
        servers: ServerSet,
    ) -> Self {
        let (quorum, timing, late) = (several.quorum, several.timing, requests.unanswered());
        Self {
            several: Arc::clone(several),
            requests: Arc::clone(requests),
            release: QuorumRelease::of(quorum, timing, servers, late),
            result: None,
            failures: Failures::default(),
        }
    }

    /// A server has answered.
    fn takes(&mut self, server: ServerId, answer: LockResult<Answer>) {
        match answer {
            Ok(Answer::Yes) => self.on(ReleaseEvent::Undone(server)),
            Ok(Answer::No) => self.on(ReleaseEvent::HadNone(server)),
            Ok(Answer::Unknown) => self.failed(server),
            Err(error) => {
                self.failures.add(server, error);
                self.failed(server);
            }
        }
    }

    /// A server did not answer.
    pub(super) fn failed(&mut self, server: ServerId) {
        self.on(ReleaseEvent::Failed(server));
    }

    fn on(&mut self, event: ReleaseEvent) {
        for command in self.release.on(self.several.now(), event) {
            match command {
                ReleaseCommand::UndoLater(server, until) => {
                    self.several.undo_later_on(&self.requests, server, until);
                }
                ReleaseCommand::Resolve(undone) => self.result = Some(undone),
            }
        }
    }

    fn undone(&self) -> Undone {
        self.result.unwrap_or(Undone::Unknown)
    }
}

/// What is undone in the background. Dropped at any moment, also before its task has run, the servers
/// that have not confirmed it are asked again.
struct Unconfirmed(Undo);

impl Drop for Unconfirmed {
    fn drop(&mut self) {
        self.0.release.left().iter().for_each(|server| self.0.failed(server));
    }
}
