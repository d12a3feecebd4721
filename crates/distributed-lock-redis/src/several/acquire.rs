//! Asking all servers for a lock, and for news while waiting.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use distributed_lock_core::clock::Moment;
use distributed_lock_core::driver::{Attempt, Granted, Lease};
use distributed_lock_core::error::{LateGrant, LockError, LockResult};
use distributed_lock_core::{AttemptToken, Mode};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use redis::Value;

use super::place::{Ballot, QuorumPlace};
use super::undo::End;
use super::{Member, QuorumGrant, Several};
use crate::driver::{code, unexpected};
use crate::failure::is_refusal;
use crate::key::RedisKey;
use crate::link::Link;
use crate::mailbox::Letterbox;
use crate::place::RedisPlace;
use crate::redlock::contest::{Contest, ContestCommand};
use crate::redlock::round::{OwnerId, Round, RoundCommand, RoundEvent, Verdict};
use crate::redlock::servers::{ServerId, ServerSet};
use crate::script::{QUORUM_ACQUIRE, Run};

pub(super) type QuorumAttempt = Attempt<RedisKey, RedisPlace>;

/// How a round over one key ended for the attempt.
pub(super) enum Outcome {
    Won(Lease, Ballot),
    Held,
    Split(Moment),
}

/// What one server said.
enum Vote {
    Granted,
    Refused(OwnerId),
    GivenUp,
}

impl Several {
    pub(crate) async fn try_acquire(
        self: &Arc<Self>,
        attempt: &mut QuorumAttempt,
    ) -> LockResult<Option<Granted<QuorumGrant>>> {
        if !attempt.place.on_each.letterboxes.is_empty() {
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
                Outcome::Won(lease, ballot) => {
                    let grant = QuorumGrant::new(attempt, ballot, lease);
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
        if attempt.place.on_each.letterboxes.is_empty() {
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
        let mut pending = self.reachable();
        let members = self.members.iter().filter(|member| pending.contains(member.id));
        let mut asked: FuturesUnordered<_> = members
            .map(|member| async move { (member.id, member.client.subscribe().await) })
            .collect();
        let (mut listening, mut failure) = (0, None);
        let mut patience = self.patience();
        while !pending.is_empty() {
            tokio::select! {
                biased;
                Some((server, result)) = asked.next() => {
                    pending.remove(server);
                    match result {
                        Ok(()) => listening += 1,
                        Err(error) => failure = Some(error),
                    }
                }
                () = patience.is_over(pending) => break,
            }
        }
        self.are_silent(pending);
        match listening >= self.quorum.majority() {
            true => Ok(()),
            false => Err(failure.unwrap_or_else(|| self.too_few())),
        }
    }

    /// One round for a lock, or for the permit of this number. What it asked for is in the place
    /// until it is won or undone.
    pub(super) async fn round(
        self: &Arc<Self>,
        attempt: &mut QuorumAttempt,
        slot: Option<u32>,
    ) -> LockResult<Outcome> {
        let mode = if slot.is_some() { Mode::Exclusive } else { attempt.mode };
        let is_waiting = !attempt.place.on_each.letterboxes.is_empty();
        let ballot = Ballot {
            keys: attempt.key.on_each(slot),
            code: code(mode).0,
            // Each round has its own, so that what undoes one never touches the next.
            owner: self.options.owner(mode, AttemptToken::random()?),
            // Until it is known where requests have left.
            asked: self.quorum.all(),
            unanswered: self.quorum.all(),
            links: BTreeMap::new(),
            waiter: is_waiting.then_some(attempt.token()?),
        };
        let waits_as = code(attempt.mode);
        let place = &mut attempt.place.on_each;
        place.rounds.push(ballot.clone());
        let (verdict, sent, failure) = self.ask_all(&ballot, waits_as, place).await;
        let Some(ballot) = place.rounds.pop() else { return Err(unexpected()) };
        if let Verdict::Granted(lease) = verdict {
            return Ok(Outcome::Won(lease, ballot));
        }
        place.rounds.push(ballot.clone());
        // Its places in the queues stay.
        self.undo(&ballot, End::Round).await;
        place.rounds.pop();
        match verdict {
            Verdict::Held => Ok(Outcome::Held),
            Verdict::Split => Ok(Outcome::Split(sent)),
            Verdict::TooSlow => Err(LockError::connection(LateGrant)),
            _ => Err(failure.unwrap_or_else(|| self.too_few())),
        }
    }

    async fn ask_all(
        self: &Arc<Self>,
        ballot: &Ballot,
        waits_as: (&'static str, u32),
        place: &mut QuorumPlace,
    ) -> (Verdict, Moment, Option<LockError>) {
        let mut round = Round::new(self.quorum, self.timing, self.now());
        let left = Left::default();
        let mut asked = FuturesUnordered::new();
        let mut failure = None;
        let reachable = self.reachable();
        let mut commands = round.on(self.now(), RoundEvent::Begin);
        let sent = round.sent();
        for server in self.quorum.all().without(reachable).iter() {
            commands.extend(round.on(sent, RoundEvent::Unknown(server)));
        }
        let mut patience = self.patience();
        let mut refused = ServerSet::NONE;
        loop {
            for command in commands {
                match command {
                    RoundCommand::Ask(server) if !reachable.contains(server) => {}
                    RoundCommand::Ask(server) => {
                        let member = &self.members[usize::from(server.0)];
                        asked.push(self.ask(member, ballot, waits_as, &left));
                    }
                    RoundCommand::Resolve(verdict) => {
                        // A lock is held on as many as there are, not only on the quickest: whoever
                        // was not asked yet because others were so quick is asked now.
                        while matches!(verdict, Verdict::Granted(_))
                            && let Some(Some(_)) = asked.next().now_or_never()
                        {
                        }
                        // Requests that have not left by now never do.
                        left.note(place, left.servers(), refused, round.granted());
                        return (verdict, sent, failure);
                    }
                    // The timer is there; what is undone is in the ballot.
                    RoundCommand::WakeAt(_) | RoundCommand::Undo(_) => {}
                }
            }
            let event = tokio::select! {
                biased;
                Some((server, vote)) = asked.next() => match vote {
                    Ok(Vote::Granted) => RoundEvent::Granted(server),
                    Ok(Vote::Refused(owner)) => {
                        refused.insert(server);
                        RoundEvent::Refused(server, owner)
                    }
                    Ok(Vote::GivenUp) => RoundEvent::Unknown(server),
                    Err(error) => {
                        if failure.is_none() || is_refusal(&error) {
                            failure = Some(error);
                        }
                        RoundEvent::Unknown(server)
                    }
                },
                () = patience.is_over(round.pending()) => {
                    self.are_silent(round.pending());
                    RoundEvent::Tick
                }
            };
            commands = round.on(self.now(), event);
            // More of them may leave before the next event, and this future be dropped then.
            left.note(place, reachable, refused, round.granted());
        }
    }

    async fn ask(
        &self,
        member: &Member,
        ballot: &Ballot,
        (waits_as, max): (&'static str, u32),
        left: &Left,
    ) -> (ServerId, LockResult<Vote>) {
        let (max, waiter) = (max.to_string(), ballot.waiter());
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
        let run = Run { text: &QUORUM_ACQUIRE, keys: &ballot.keys, arguments: &arguments };
        let reply = self.run(member, run, |link| left.on(member.id, link)).await;
        (member.id, reply.and_then(|reply| vote(&reply)))
    }

    /// Runs a script on a server that counts; once more if its link turns out to be closed.
    pub(super) async fn run(
        &self,
        member: &Member,
        run: Run<'_>,
        before: impl Fn(&Link),
    ) -> LockResult<Value> {
        let link = self.ready(member).await?;
        before(&link);
        let result = match member.client.run_on(&link, run).await {
            Err(LockError::Connection(_)) if link.is_broken() => {
                let link = self.ready(member).await?;
                before(&link);
                member.client.run_on(&link, run).await
            }
            result => result,
        };
        if !matches!(result, Err(LockError::Connection(_))) {
            member.is_back();
        }
        result
    }
}

/// On which links requests have left.
#[derive(Default)]
struct Left(Mutex<BTreeMap<ServerId, u64>>);

impl Left {
    fn on(&self, server: ServerId, link: &Link) {
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = links.entry(server).or_insert(link.number);
        if *number != link.number {
            *number = Ballot::SEVERAL_LINKS;
        }
    }

    fn servers(&self) -> ServerSet {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Writes down where the last round may have votes.
    fn note(
        &self,
        place: &mut QuorumPlace,
        asked: ServerSet,
        refused: ServerSet,
        granted: ServerSet,
    ) {
        let links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ballot) = place.rounds.last_mut() {
            ballot.asked = asked.without(refused);
            ballot.unanswered = ballot.asked.without(granted);
            ballot.links.clone_from(&links);
        }
    }
}

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
