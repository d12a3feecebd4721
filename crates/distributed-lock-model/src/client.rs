//! A modelled client: it drives the product's machines, and believes what they say.

use std::time::Duration;

use distributed_lock_core::clock::Moment;
use distributed_lock_redis::redlock::drawing::{Drawing, DrawingCommand, Raised};
use distributed_lock_redis::redlock::renewal::{Renewal, Renewed};
use distributed_lock_redis::redlock::round::{Round, RoundCommand, RoundEvent, Verdict};
use distributed_lock_redis::redlock::servers::{Quorum, ServerId, ServerSet};
use distributed_lock_redis::redlock::tally::Answer;
use distributed_lock_redis::redlock::timing::Timing;

use crate::server::{Question, Reply};
use crate::variant::{Bounds, Start, Variant};

/// What a client wants to be sent.
pub(crate) type Requests = Vec<(ServerId, Question)>;

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
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Stage {
    Idle,
    Asking(Round),
    Holding { until: Moment, granted_by: u8, renewal: Option<Renewal>, token: Token },
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
        Self { round: 0, extensions: bounds.extensions, stage: Stage::Idle }
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

    pub(crate) fn draw(&mut self, bounds: &Bounds) -> Requests {
        let Stage::Holding { token, .. } = &mut self.stage else { return Vec::new() };
        let Token::No(tries) = token else { return Vec::new() };
        let (drawing, commands) = Drawing::begin(Quorum::of(bounds.servers));
        *token = Token::Drawing(*tries, drawing);
        self.obey_draw(bounds, commands)
    }

    pub(crate) fn begin(&mut self, variant: Variant, bounds: &Bounds, now: u8) -> Requests {
        let quorum = match variant {
            Variant::QuorumTooSmall => Quorum::wrong(bounds.servers, bounds.servers / 2),
            _ => Quorum::of(bounds.servers),
        };
        self.round += 1;
        let mut round = Round::new(quorum, timing(bounds), at(now));
        let commands = round.on(at(now), RoundEvent::Begin);
        self.stage = Stage::Asking(round);
        self.obey(variant, bounds, now, commands)
    }

    pub(crate) fn extend(&mut self, variant: Variant, bounds: &Bounds, now: u8) -> Requests {
        let Stage::Holding { renewal, granted_by, .. } = &mut self.stage else { return Vec::new() };
        let quorum = match variant {
            Variant::MajorityOfAcquired => Quorum::wrong(bounds.servers, *granted_by / 2 + 1),
            _ => Quorum::of(bounds.servers),
        };
        self.extensions -= 1;
        let begun = Renewal::begin(quorum, timing(bounds), at(now));
        let pending = begun.pending();
        *renewal = Some(begun);
        pending.iter().map(|server| (server, Question::Extend)).collect()
    }

    /// Releases it, or loses interest.
    pub(crate) fn end(&mut self, variant: Variant, bounds: &Bounds, now: u8) -> Requests {
        match &mut self.stage {
            Stage::Asking(round) => {
                let commands = round.on(at(now), RoundEvent::Abandoned);
                self.stage = Stage::Idle;
                self.obey(variant, bounds, now, commands)
            }
            Stage::Holding { .. } => {
                self.stage = Stage::Idle;
                let all = Quorum::of(bounds.servers).all();
                all.iter().map(|server| (server, Question::Undo)).collect()
            }
            Stage::Idle => Vec::new(),
        }
    }

    /// Time has passed.
    pub(crate) fn on_time(&mut self, variant: Variant, bounds: &Bounds, now: u8) -> Requests {
        match &mut self.stage {
            Stage::Asking(round) => {
                let commands = round.on(at(now), RoundEvent::Tick);
                self.obey(variant, bounds, now, commands)
            }
            Stage::Holding { until, .. } if at(now) >= *until => self.end(variant, bounds, now),
            Stage::Holding { renewal: Some(pending), .. } => {
                let renewed = pending.on_tick(at(now));
                self.on_renewed(variant, bounds, now, renewed)
            }
            Stage::Holding { .. } | Stage::Idle => Vec::new(),
        }
    }

    /// A server has answered a question of the current round.
    pub(crate) fn on_reply(
        &mut self,
        variant: Variant,
        bounds: &Bounds,
        now: u8,
        (server, question, reply): (ServerId, Question, Reply),
    ) -> Requests {
        match (&mut self.stage, question) {
            (Stage::Asking(round), Question::Acquire) => {
                let event = match reply {
                    Reply::Done => RoundEvent::Granted(server),
                    Reply::Owner(owner) => RoundEvent::Refused(server, owner),
                    _ => RoundEvent::Unknown(server),
                };
                let commands = round.on(at(now), event);
                self.obey(variant, bounds, now, commands)
            }
            (Stage::Holding { granted_by, .. }, Question::Acquire) => {
                *granted_by += u8::from(reply == Reply::Done);
                Vec::new()
            }
            (Stage::Holding { renewal: Some(pending), .. }, Question::Extend) => {
                let answer = match reply {
                    Reply::Done => Answer::Yes,
                    Reply::NotYours => Answer::No,
                    _ => Answer::Unknown,
                };
                let renewed = pending.on_answer(server, answer);
                self.on_renewed(variant, bounds, now, renewed)
            }
            // What was asked in an earlier try is of no more interest.
            (Stage::Holding { token: Token::Drawing(this, drawing), .. }, Question::Step(of))
                if of == *this =>
            {
                let mut commands = match reply {
                    Reply::Counted(number) => drawing.on_step(server, Some(number)),
                    Reply::NotYours => drawing.on_step(server, None),
                    _ => drawing.on_unknown(server),
                };
                if let (Variant::TokenNotWrittenBack, Some(DrawingCommand::Raise(_, number))) =
                    (variant, commands.first().copied())
                {
                    commands = vec![DrawingCommand::Drawn(number)];
                }
                self.obey_draw(bounds, commands)
            }
            (
                Stage::Holding { token: Token::Drawing(this, drawing), .. },
                Question::Raise(of, _),
            ) if of == *this => {
                let raised = match reply {
                    Reply::Counted(_) => Some(Raised::Yes),
                    Reply::NotYours => Some(Raised::NotOwner),
                    Reply::Behind => Some(Raised::Behind),
                    _ => None,
                };
                let commands = match raised {
                    Some(raised) => drawing.on_raise(server, raised),
                    None => drawing.on_unknown(server),
                };
                self.obey_draw(bounds, commands)
            }
            _ => Vec::new(),
        }
    }

    fn obey_draw(&mut self, bounds: &Bounds, commands: Vec<DrawingCommand>) -> Requests {
        let Stage::Holding { token, .. } = &mut self.stage else { return Vec::new() };
        // It begins, perhaps anew.
        if let (Token::Drawing(tries, _), Some(DrawingCommand::Step(_))) =
            (&mut *token, commands.first())
        {
            *tries += 1;
        }
        let mut requests = Vec::new();
        for command in commands {
            let Token::Drawing(tries, _) = token else { break };
            match command {
                DrawingCommand::Step(_) if *tries > bounds.draws => *token = Token::No(*tries),
                DrawingCommand::Step(server) => requests.push((server, Question::Step(*tries))),
                DrawingCommand::Raise(server, number) => {
                    requests.push((server, Question::Raise(*tries, number)));
                }
                DrawingCommand::Drawn(number) => *token = Token::Drawn(number),
                DrawingCommand::Gone | DrawingCommand::TooFew => *token = Token::No(*tries),
            }
        }
        requests
    }

    fn on_renewed(
        &mut self,
        variant: Variant,
        bounds: &Bounds,
        now: u8,
        renewed: Option<Renewed>,
    ) -> Requests {
        let Stage::Holding { until, renewal, .. } = &mut self.stage else { return Vec::new() };
        match renewed {
            Some(Renewed::Extended(lease)) => {
                *until = lease.deadline().max(*until);
                let missing = renewal.take().map(|renewal| renewal.missing());
                return missing
                    .into_iter()
                    .flat_map(ServerSet::iter)
                    .map(|server| (server, Question::Acquire))
                    .collect();
            }
            Some(Renewed::Unknown) => *renewal = None,
            Some(Renewed::Refused) => return self.end(variant, bounds, now),
            None => {}
        }
        Vec::new()
    }

    fn obey(
        &mut self,
        variant: Variant,
        bounds: &Bounds,
        now: u8,
        commands: Vec<RoundCommand>,
    ) -> Requests {
        let mut requests = Vec::new();
        for command in commands {
            match command {
                RoundCommand::Ask(server) => requests.push((server, Question::Acquire)),
                RoundCommand::Undo(_) if variant == Variant::NoCleanUp => {}
                // Nothing is undone of what is believed to be held.
                RoundCommand::Undo(_) if self.holds(now) => {}
                RoundCommand::Undo(server) => requests.push((server, Question::Undo)),
                RoundCommand::WakeAt(_) => {}
                RoundCommand::Resolve(verdict) => self.resolve(variant, bounds, now, verdict),
            }
        }
        requests
    }

    fn resolve(&mut self, variant: Variant, bounds: &Bounds, now: u8, verdict: Verdict) {
        let is_unchecked = variant == Variant::NoValidityCheck;
        let until = match verdict {
            Verdict::Granted(_) | Verdict::TooSlow if is_unchecked => Some(at(now + bounds.expiry)),
            Verdict::Granted(lease) => Some(lease.deadline()),
            _ => None,
        };
        let granted_by = bounds.servers / 2 + 1;
        self.stage = match until {
            Some(until) => {
                let token = Token::No(0);
                Stage::Holding { until, granted_by, renewal: None, token }
            }
            None => Stage::Idle,
        };
    }
}
