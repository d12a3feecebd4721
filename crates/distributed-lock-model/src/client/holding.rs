//! What a modelled client does while it holds: it extends, asks for missing votes, and draws a token.

use distributed_lock_redis::redlock::drawing::{Drawing, DrawingCommand, Raised};
use distributed_lock_redis::redlock::renewal::{Renewal, Renewed};
use distributed_lock_redis::redlock::round::{LinkCommand, LinkEvent};
use distributed_lock_redis::redlock::sent::LinkId;
use distributed_lock_redis::redlock::servers::{Quorum, ServerId};
use distributed_lock_redis::redlock::tally::Answer;

use super::{Client, Leaving, Requests, Stage, Token, at, timing};
use crate::server::{Question, Reply};
use crate::variant::{Bounds, Variant};

impl Client {
    pub(crate) fn draw(&mut self, bounds: &Bounds) -> Requests {
        let Stage::Holding { token, .. } = &mut self.stage else { return Vec::new() };
        let Token::No(tries) = token else { return Vec::new() };
        let (drawing, commands) = Drawing::begin(Quorum::of(bounds.servers));
        *token = Token::Drawing(*tries, drawing);
        self.obey_draw(bounds, commands)
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
        pending.iter().map(|server| self.leaving(self.round, server, Question::Extend)).collect()
    }

    pub(super) fn on_held_reply(
        &mut self,
        variant: Variant,
        bounds: &Bounds,
        (server, question, reply): (ServerId, Question, Reply),
    ) -> Requests {
        match (&mut self.stage, question) {
            (Stage::Holding { renewal: Some(pending), .. }, Question::Extend) => {
                let answer = match reply {
                    Reply::Done => Answer::Yes,
                    Reply::NotYours => Answer::No,
                    _ => Answer::Unknown,
                };
                let renewed = pending.on_answer(server, answer);
                self.on_renewed(variant, bounds, renewed)
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
        let mut asks = Vec::new();
        for command in commands {
            let Token::Drawing(tries, _) = token else { break };
            match command {
                DrawingCommand::Step(_) if *tries > bounds.draws => *token = Token::No(*tries),
                DrawingCommand::Step(server) => asks.push((server, Question::Step(*tries))),
                DrawingCommand::Raise(server, number) => {
                    asks.push((server, Question::Raise(*tries, number)));
                }
                DrawingCommand::Drawn(number) => *token = Token::Drawn(number),
                DrawingCommand::Gone | DrawingCommand::TooFew => *token = Token::No(*tries),
            }
        }
        let leaving = |(server, question)| self.leaving(self.round, server, question);
        asks.into_iter().map(leaving).collect()
    }

    pub(super) fn on_renewed(
        &mut self,
        variant: Variant,
        bounds: &Bounds,
        renewed: Option<Renewed>,
    ) -> Requests {
        let Stage::Holding { until, renewal, .. } = &mut self.stage else { return Vec::new() };
        match renewed {
            Some(Renewed::Extended(lease)) => {
                *until = lease.deadline().max(*until);
                let missing = renewal.take().map(|renewal| renewal.missing()).unwrap_or_default();
                return missing.iter().filter_map(|server| self.ask_again(server)).collect();
            }
            Some(Renewed::Unknown) => *renewal = None,
            Some(Renewed::Refused) => return self.end(variant, bounds),
            None => {}
        }
        Vec::new()
    }

    fn ask_again(&mut self, server: ServerId) -> Option<Leaving> {
        let link = LinkId(u64::from(self.link(server)));
        let Stage::Holding { round, .. } = &mut self.stage else { return None };
        let command = round.on_link(LinkEvent::AskAgain(server, link));
        let asks = command == Some(LinkCommand::Ask);
        asks.then(|| self.leaving(self.round, server, Question::AcquireAgain))
    }
}
