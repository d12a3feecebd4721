//! A modelled client: it drives the product's machines, and believes what they say.

mod holding;

use std::time::Duration;

use distributed_lock_core::clock::Moment;
use distributed_lock_redis::redlock::drawing::Drawing;
use distributed_lock_redis::redlock::release::{
    QuorumRelease, ReleaseCommand, ReleaseEvent, Undone,
};
use distributed_lock_redis::redlock::renewal::Renewal;
use distributed_lock_redis::redlock::round::{
    LinkCommand, LinkEvent, Round, RoundCommand, RoundEnd, RoundEvent, Verdict,
};
use distributed_lock_redis::redlock::sent::{Effect, LinkId};
use distributed_lock_redis::redlock::servers::{Quorum, ServerId, ServerSet};
use distributed_lock_redis::redlock::timing::Timing;

use crate::server::{Question, Reply};
use crate::variant::{Bounds, Start, Variant};

/// A request that leaves, of one of the client's rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leaving {
    pub(crate) round: u8,
    pub(crate) to: ServerId,
    pub(crate) link: u8,
    pub(crate) question: Question,
}

/// What a client sends.
pub(crate) type Requests = Vec<Leaving>;

/// A reply on a link that is still in use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    pub(crate) round: u8,
    pub(crate) from: ServerId,
    pub(crate) link: u8,
    pub(crate) question: Question,
    pub(crate) reply: Reply,
}

/// A step of the model's time.
pub(crate) fn at(step: u8) -> Moment {
    Moment::from_nanos(u64::from(step) * 1_000_000)
}

fn timing(bounds: &Bounds) -> Timing {
    let step = Duration::from_millis(1);
    // All clocks of the model go at the same speed.
    let (expiry, drift) = (step * u32::from(bounds.expiry), Duration::ZERO);
    // As long as the lease, so that a round can be too slow.
    Timing { expiry, drift, min_validity: step, patience: expiry }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    pub(crate) round: u8,
    extensions: u8,
    /// The link in use to each server.
    links: Vec<u8>,
    stage: Stage,
    undoing: Vec<Undoing>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Stage {
    Idle,
    Asking { round: Round, wakes: Moment },
    Holding { round: Round, until: Moment, granted_by: u8, renewal: Option<Renewal>, token: Token },
}

/// A round that is being undone, until every server has confirmed it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Undoing {
    number: u8,
    round: Round,
    release: QuorumRelease,
    result: Option<Undone>,
}

/// The fencing token of a hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Token {
    /// So many tries were made to draw it.
    No(u8),
    Drawing(u8, Drawing),
    Drawn(u64),
}

impl Client {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        let links = vec![0; usize::from(bounds.servers)];
        let (stage, undoing) = (Stage::Idle, Vec::new());
        Self { round: 0, extensions: bounds.extensions, links, stage, undoing }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.stage == Stage::Idle
    }

    /// Whether it believes that it has the lock.
    pub(crate) fn holds(&self, now: u8) -> bool {
        matches!(self.stage, Stage::Holding { until, .. } if at(now) < until)
    }

    pub(crate) fn may_begin(&self, bounds: &Bounds) -> bool {
        self.is_idle() && self.round < bounds.rounds
    }

    pub(crate) fn may_end(&self, bounds: &Bounds) -> bool {
        !self.is_idle() && bounds.start == Start::Free
    }

    pub(crate) fn may_extend(&self, now: u8) -> bool {
        let free = matches!(&self.stage, Stage::Holding { renewal: None, .. });
        free && self.extensions > 0 && self.holds(now)
    }

    pub(crate) fn may_draw(&self, bounds: &Bounds, now: u8) -> bool {
        let tries = match &self.stage {
            Stage::Holding { token: Token::No(tries), .. } => *tries,
            _ => u8::MAX,
        };
        tries < bounds.draws && self.holds(now)
    }

    /// The token of what it holds.
    pub(crate) fn token(&self) -> Option<u64> {
        match &self.stage {
            Stage::Holding { token: Token::Drawn(number), .. } => Some(*number),
            _ => None,
        }
    }

    /// The link in use to a server.
    pub(crate) fn link(&self, server: ServerId) -> u8 {
        self.links[usize::from(server.0)]
    }

    fn leaving(&self, round: u8, to: ServerId, question: Question) -> Leaving {
        Leaving { round, to, link: self.link(to), question }
    }

    pub(crate) fn begin(&mut self, variant: Variant, bounds: &Bounds, now: u8) -> Requests {
        let quorum = match variant {
            Variant::QuorumTooSmall => Quorum::wrong(bounds.servers, bounds.servers / 2),
            _ => Quorum::of(bounds.servers),
        };
        self.round += 1;
        let round = Round::new(quorum, timing(bounds));
        self.stage = Stage::Asking { round, wakes: at(now) };
        let all = Quorum::of(bounds.servers).all();
        self.on_round(variant, bounds, now, RoundEvent::Begin(all))
    }

    /// Releases it, or loses interest.
    pub(crate) fn end(&mut self, variant: Variant, bounds: &Bounds) -> Requests {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            // Before its repair, the product forgot a round that was dropped.
            Stage::Asking { .. } if variant == Variant::DroppedRoundForgotten => Vec::new(),
            Stage::Asking { mut round, .. } => {
                let servers = round.end(RoundEnd::Dropped);
                self.undo(variant, bounds, round, servers)
            }
            Stage::Holding { mut round, .. } => {
                let servers = round.end(RoundEnd::Whole);
                self.undo(variant, bounds, round, servers)
            }
            Stage::Idle => Vec::new(),
        }
    }

    /// Undoes the current round.
    fn undo(
        &mut self,
        variant: Variant,
        bounds: &Bounds,
        round: Round,
        servers: ServerSet,
    ) -> Requests {
        if variant == Variant::NoCleanUp
            && round.granted().len() < Quorum::of(bounds.servers).majority()
        {
            return Vec::new();
        }
        let quorum = Quorum::of(bounds.servers);
        let release = QuorumRelease::of(quorum, timing(bounds), servers, round.unanswered());
        if release.left().is_empty() {
            return Vec::new();
        }
        self.undoing.push(Undoing { number: self.round, round, release, result: None });
        let last = self.undoing.len() - 1;
        let requests = servers.iter().filter_map(|server| self.undo_on(last, server)).collect();
        if bounds.leaves == 0 {
            // Every request arrives in its order, so nothing is undone a second time.
            self.undoing.pop();
        }
        requests
    }

    fn undo_on(&mut self, index: usize, server: ServerId) -> Option<Leaving> {
        let link = self.link(server);
        let undoing = &mut self.undoing[index];
        let event = LinkEvent::Undo(server, LinkId(u64::from(link)));
        let Some(LinkCommand::Undo { tombstone }) = undoing.round.on_link(event) else {
            return None;
        };
        let number = undoing.number;
        Some(self.leaving(number, server, Question::Undo { tombstone }))
    }

    /// The link to a server is reported closed: what is on its way there may arrive all the same, and
    /// no reply comes.
    pub(crate) fn leave(&mut self, server: ServerId, now: u8) -> Requests {
        self.links[usize::from(server.0)] += 1;
        let mut requests = Vec::new();
        if let Stage::Asking { round, .. } = &mut self.stage
            && round.unanswered().contains(server)
        {
            let link = LinkId(u64::from(self.links[usize::from(server.0)]));
            if round.on_link(LinkEvent::Ask(server, link)) == Some(LinkCommand::Ask) {
                requests.push(self.leaving(self.round, server, Question::Acquire));
            }
        }
        for index in 0..self.undoing.len() {
            if self.undoing[index].release.left().contains(server) {
                requests.extend(self.on_release(index, now, ReleaseEvent::Failed(server)));
            }
        }
        requests
    }

    fn on_release(&mut self, index: usize, now: u8, event: ReleaseEvent) -> Requests {
        let mut requests = Vec::new();
        for command in self.undoing[index].release.on(at(now), event) {
            match command {
                ReleaseCommand::UndoLater(server, until) => {
                    let request = (at(now) < until).then(|| self.undo_on(index, server));
                    requests.extend(request.flatten());
                }
                ReleaseCommand::Resolve(undone) => self.undoing[index].result = Some(undone),
            }
        }
        requests
    }

    /// Time has passed.
    pub(crate) fn on_time(&mut self, variant: Variant, bounds: &Bounds, now: u8) -> Requests {
        match &mut self.stage {
            Stage::Asking { wakes, .. } if at(now) >= *wakes => {
                self.on_round(variant, bounds, now, RoundEvent::Tick)
            }
            Stage::Holding { until, .. } if at(now) >= *until => self.end(variant, bounds),
            Stage::Holding { renewal: Some(pending), .. } => {
                let renewed = pending.on_tick(at(now));
                self.on_renewed(variant, bounds, renewed)
            }
            Stage::Asking { .. } | Stage::Holding { .. } | Stage::Idle => Vec::new(),
        }
    }

    /// A server has answered.
    pub(crate) fn on_reply(
        &mut self,
        variant: Variant,
        bounds: &Bounds,
        now: u8,
        heard: Heard,
    ) -> Requests {
        let Heard { round, from, question, reply, .. } = heard;
        if let Question::Undo { .. } = question {
            let Some(index) = self.undoing.iter().position(|undoing| undoing.number == round)
            else {
                return Vec::new();
            };
            let event = match reply {
                Reply::Done => ReleaseEvent::Undone(from),
                _ => ReleaseEvent::HadNone(from),
            };
            let requests = self.on_release(index, now, event);
            self.undoing.retain(|undoing| !undoing.release.left().is_empty());
            return requests;
        }
        if round != self.round {
            return Vec::new();
        }
        match question {
            Question::Acquire => self.on_vote(variant, bounds, now, heard),
            Question::AcquireAgain => {
                if let Stage::Holding { round, granted_by, .. } = &mut self.stage {
                    let effect =
                        if reply == Reply::Done { Effect::MayHaveVoted } else { Effect::NoVote };
                    round.on_link(LinkEvent::AnsweredAgain(from, effect));
                    *granted_by += u8::from(reply == Reply::Done);
                }
                Vec::new()
            }
            _ => self.on_held_reply(variant, bounds, (from, question, reply)),
        }
    }

    fn on_vote(&mut self, variant: Variant, bounds: &Bounds, now: u8, heard: Heard) -> Requests {
        let Heard { from, link, reply, .. } = heard;
        let effect = if reply == Reply::Done { Effect::MayHaveVoted } else { Effect::NoVote };
        let round = match &mut self.stage {
            Stage::Asking { round, .. } => round,
            Stage::Holding { round, granted_by, .. } => {
                *granted_by += u8::from(reply == Reply::Done);
                round
            }
            Stage::Idle => return Vec::new(),
        };
        // Before its repair, the product took an answer for one on every link.
        let first = if variant == Variant::AnswerForAllLinks { 0 } else { link };
        for link in first..=link {
            round.on_link(LinkEvent::Answered(from, LinkId(u64::from(link)), effect));
        }
        let event = match reply {
            Reply::Done => RoundEvent::Granted(from),
            Reply::Owner(owner) => RoundEvent::Refused(from, owner),
            _ => RoundEvent::Unknown(from),
        };
        match self.stage {
            Stage::Asking { .. } => self.on_round(variant, bounds, now, event),
            Stage::Holding { .. } | Stage::Idle => Vec::new(),
        }
    }

    /// Takes an event of the current round and carries out its commands.
    fn on_round(
        &mut self,
        variant: Variant,
        bounds: &Bounds,
        now: u8,
        event: RoundEvent,
    ) -> Requests {
        let Stage::Asking { round, wakes } = &mut self.stage else { return Vec::new() };
        let (mut asks, mut verdict, mut undo) = (ServerSet::NONE, None, ServerSet::NONE);
        for command in round.on(at(now), event) {
            match command {
                RoundCommand::Ask(server) => drop(asks.insert(server)),
                RoundCommand::WakeAt(moment) => *wakes = moment,
                RoundCommand::Resolve(resolved) => verdict = Some(resolved),
                RoundCommand::Undo(server) => drop(undo.insert(server)),
            }
        }
        let on_link = |server: &ServerId| {
            let link = LinkId(u64::from(self.links[usize::from(server.0)]));
            round.on_link(LinkEvent::Ask(*server, link)) == Some(LinkCommand::Ask)
        };
        let asks: Vec<_> = asks.iter().filter(on_link).collect();
        let asking = asks.iter().map(|server| self.leaving(self.round, *server, Question::Acquire));
        let mut requests: Requests = asking.collect();
        if let Some(verdict) = verdict {
            requests.extend(self.resolve(variant, bounds, now, (verdict, undo)));
        }
        requests
    }

    fn resolve(
        &mut self,
        variant: Variant,
        bounds: &Bounds,
        now: u8,
        (verdict, undo): (Verdict, ServerSet),
    ) -> Requests {
        let is_unchecked = variant == Variant::NoValidityCheck;
        let until = match verdict {
            Verdict::Granted(_) | Verdict::TooSlow if is_unchecked => Some(at(now + bounds.expiry)),
            Verdict::Granted(lease) => Some(lease.deadline()),
            _ => None,
        };
        let granted_by = bounds.servers / 2 + 1;
        let Stage::Asking { round, .. } = std::mem::replace(&mut self.stage, Stage::Idle) else {
            return Vec::new();
        };
        let Some(until) = until else { return self.undo(variant, bounds, round, undo) };
        let (renewal, token) = (None, Token::No(0));
        self.stage = Stage::Holding { round, until, granted_by, renewal, token };
        Vec::new()
    }
}
