//! Asking all servers for a lock, and for news while waiting.

use std::hash::{BuildHasher, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use distributed_lock_core::clock::Moment;
use distributed_lock_core::driver::{Attempt, Granted, Lease};
use distributed_lock_core::error::{LateGrant, LockError, LockResult};
use distributed_lock_core::{AttemptToken, Mode};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use super::failures::Failures;
use super::fanout::{Fanout, Reply};
use super::place::{OpenRound, RoundRequests};
use super::undo::End;
use super::vote::{Question, Vote};
use super::{QuorumGrant, Several};
use crate::driver::code;
use crate::key::RedisKey;
use crate::mailbox::Letterbox;
use crate::place::RedisPlace;
use crate::redlock::contest::{Contest, ContestCommand};
use crate::redlock::round::{Round, RoundCommand, RoundEvent, Verdict};
use crate::redlock::servers::ServerSet;

pub(super) type QuorumAttempt = Attempt<RedisKey, RedisPlace>;

/// How a round over one key ended for the attempt.
pub(super) enum Outcome {
    Won(Lease, Arc<RoundRequests>),
    Held,
    Split(Moment),
}

impl Several {
    pub(crate) async fn try_acquire(
        self: &Arc<Self>,
        attempt: &mut QuorumAttempt,
    ) -> LockResult<Option<Granted<QuorumGrant>>> {
        if attempt.place.on_each.is_waiting() {
            self.subscribe_all().await?;
        }
        // Less than the engine allows, so that the last round ends with an answer.
        let mut contest = Contest::until(self.now().after(self.operation_timeout / 2));
        loop {
            let outcome = match attempt.mode {
                Mode::Permit { max } => self.try_permit(attempt, max).await?,
                Mode::Exclusive | Mode::Shared => self.round(attempt, None).await?,
            };
            match outcome {
                Outcome::Won(lease, requests) => {
                    let grant = QuorumGrant::new(requests, lease);
                    return Ok(Some(Granted::leased(grant, lease)));
                }
                Outcome::Held => return Ok(None),
                Outcome::Split(sent) => match contest.on_split(self.now(), sent, random()?) {
                    ContestCommand::AgainAt(at) => {
                        tokio::time::sleep(at.since(self.now())).await;
                    }
                    ContestCommand::GiveUp => return Ok(None),
                },
            }
        }
    }

    /// Ends when some server says that it may be this attempt's turn. Before that, it takes a place
    /// in the queues.
    pub(crate) async fn wait(
        self: &Arc<Self>,
        attempt: &mut QuorumAttempt,
    ) -> LockResult<Option<Granted<QuorumGrant>>> {
        if !attempt.place.on_each.is_waiting() {
            self.subscribe_all().await?;
            let token = attempt.token()?;
            let boxes = self.members.iter().map(|member| member.client.mailbox.open(token));
            attempt.place.on_each.letterboxes = boxes.collect();
            if let Some(granted) = self.try_acquire(attempt).await? {
                return Ok(Some(granted));
            }
        }
        let boxes = &attempt.place.on_each.letterboxes;
        let mut news: FuturesUnordered<_> = boxes.iter().map(Letterbox::news).collect();
        news.next().await;
        // What was released on one server is released on the others in a moment. Asking before that
        // would be for nothing.
        let others = news.take(self.quorum.majority() - 1).for_each(|()| std::future::ready(()));
        let _ = tokio::time::timeout(spread(random()?), others).await;
        Ok(None)
    }

    /// Listens on every server; those that are away are listened to when they are back.
    async fn subscribe_all(self: &Arc<Self>) -> LockResult<()> {
        let mut fanout = Fanout::new(self);
        for server in self.reachable().iter() {
            let this = Arc::clone(self);
            fanout
                .ask(server, async move { (server, this.member(server).client.subscribe().await) });
        }
        let (mut listening, mut failures) = (0, Failures::default());
        while !fanout.pending().is_empty() {
            match fanout.next().await {
                Reply::Answer(_, Ok(())) => listening += 1,
                Reply::Answer(server, Err(error)) => failures.add(server, error),
                Reply::Silence => break,
            }
        }
        match listening >= self.quorum.majority() {
            true => Ok(()),
            false => Err(failures.error(self)),
        }
    }

    /// One round for a lock, or for the permit of this number. What it asked for is in the place
    /// until it is won or undone.
    pub(super) async fn round(
        self: &Arc<Self>,
        attempt: &mut QuorumAttempt,
        slot: Option<u32>,
    ) -> LockResult<Outcome> {
        // A round that was dropped, or that the engine gave up, may have votes: the next round would
        // read them as another owner's.
        self.undo_open(&mut attempt.place.on_each, End::Round).await;
        let mode = if slot.is_some() { Mode::Exclusive } else { attempt.mode };
        let waiter = attempt.place.on_each.is_waiting().then(|| attempt.token()).transpose()?;
        // Each round has an owner of its own, so that what undoes one never touches the next.
        let owner = (code(mode).0, self.options.owner(mode, AttemptToken::random()?));
        let round = Round::new(self.quorum, self.timing);
        let key = (attempt.key.clone(), slot);
        let requests = Arc::new(RoundRequests::new(key, owner, waiter, round));
        let seems_free =
            mode == Mode::Exclusive && waiter.is_none() && !self.contended.is(&attempt.key);
        let question = match seems_free {
            true => Question::of_a_free_lock(Arc::clone(&requests), &self.options.expiry_ms),
            false => Question::new(Arc::clone(&requests), code(attempt.mode)),
        };
        let place = &mut attempt.place.on_each;
        place.rounds.push(OpenRound::new(self, &requests));
        let (verdict, undo, failures) = self.ask_all(question).await;
        match (&verdict, waiter) {
            (Verdict::Granted(_), None) => self.contended.saw_nobody(&attempt.key),
            _ => self.contended.saw_others(&attempt.key),
        }
        if let Verdict::Granted(lease) = verdict {
            place.rounds.pop().into_iter().for_each(OpenRound::settle);
            return Ok(Outcome::Won(lease, requests));
        }
        // Its positions in the queues stay. The round stays open until then, in case this is dropped.
        self.undo_on_each(&requests, undo, End::Round).await;
        place.rounds.pop().into_iter().for_each(OpenRound::settle);
        match verdict {
            Verdict::Held => Ok(Outcome::Held),
            Verdict::Split => Ok(Outcome::Split(requests.begun())),
            Verdict::TooSlow => Err(LockError::connection(LateGrant)),
            Verdict::TooFew | Verdict::Granted(_) => Err(failures.error(self)),
        }
    }

    /// Asks all servers. Returns where the round must be undone, if it was not won.
    async fn ask_all(self: &Arc<Self>, question: Question) -> (Verdict, ServerSet, Failures) {
        let (requests, question) = (Arc::clone(&question.requests), Arc::new(question));
        let (mut fanout, mut failures) = (Fanout::new(self), Failures::default());
        let (mut verdict, mut undo, began) = (None, ServerSet::NONE, Instant::now());
        let mut event = RoundEvent::Begin(self.reachable());
        loop {
            let now = self.now();
            for command in requests.on(now, event) {
                match command {
                    RoundCommand::Ask(server) => {
                        fanout.ask(server, Arc::clone(self).ask(server, Arc::clone(&question)));
                    }
                    RoundCommand::WakeAt(at) => fanout.wake_in(at.since(now)),
                    RoundCommand::Resolve(resolved) => verdict = Some(resolved),
                    RoundCommand::Undo(server) => drop(undo.insert(server)),
                }
            }
            if let Some(verdict) = verdict {
                // A lock is held on as many as there are, not only on the quickest.
                if matches!(verdict, Verdict::Granted(_)) && !fanout.pending().is_empty() {
                    drop(tokio::spawn(fanout.drain(|_, _| ())));
                }
                return (verdict, undo, failures);
            }
            event = match fanout.next().await {
                Reply::Answer(server, Ok(Vote::Granted)) => RoundEvent::Granted(server),
                Reply::Answer(server, Ok(Vote::Refused(owner))) => {
                    RoundEvent::Refused(server, owner)
                }
                Reply::Answer(server, Ok(Vote::GivenUp)) => RoundEvent::Unknown(server),
                Reply::Answer(server, Err(error)) => {
                    failures.add(server, error);
                    RoundEvent::Unknown(server)
                }
                Reply::Silence => {
                    failures.add_silent(fanout.pending(), began.elapsed());
                    RoundEvent::Tick
                }
            };
        }
    }
}

/// How long news of other servers are waited for; drawn anew each time, so that those who wait for
/// one lock do not ask at the same time.
fn spread(random: u64) -> Duration {
    Duration::from_micros(2_000 + random % 4_000)
}

/// Any number, from the operating system.
pub(super) fn random() -> LockResult<u64> {
    let state = std::hash::BuildHasherDefault::<DefaultHasher>::default();
    Ok(state.hash_one(AttemptToken::random()?))
}
