//! Drawing a fencing token: the greatest of a majority's counters, known to a majority.

use super::servers::{Quorum, ServerId, ServerSet};
use super::tally::{Answer, Tally};

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DrawingCommand {
    /// Step the counter of this server, if it still names us as the owner, and return it.
    Step(ServerId),
    /// Raise the counter of this server to this number, if it is below and still names us as the
    /// owner.
    Raise(ServerId, u64),
    /// It is drawn.
    Drawn(u64),
    /// So many servers do not name us as the owner that the lock is lost.
    Gone,
    /// Fewer than a majority have answered.
    TooFew,
}

/// What became of a [`DrawingCommand::Raise`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Raised {
    /// The counter is at the number, and nobody else has brought it there.
    Yes,
    /// The counter was there or beyond already.
    Behind,
    /// The server does not name us as the owner.
    NotOwner,
}

/// One draw.
///
/// Each server compares the owner and changes its counter in one step. A later holder's majority
/// shares a server with the one that has confirmed the number; on that server this holder's step
/// came first, since the later one owned it when it drew. So a later token is greater. A server
/// confirms a number once, so that readers who draw at the same time never get the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Drawing {
    quorum: Quorum,
    stage: Stage,
    tally: Tally,
    /// The greatest number so far, and who has been brought to it.
    greatest: u64,
    have: ServerSet,
    /// Somebody else was there first: it is worth another draw.
    is_behind: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    Stepping,
    Raising,
    Over,
}

impl Drawing {
    /// A draw, and its first commands.
    #[must_use]
    pub fn begin(quorum: Quorum) -> (Self, Vec<DrawingCommand>) {
        let (stage, tally) = (Stage::Stepping, Tally::new(quorum));
        let this =
            Self { quorum, stage, tally, greatest: 0, have: ServerSet::NONE, is_behind: false };
        (this, quorum.all().iter().map(DrawingCommand::Step).collect())
    }

    /// A server has stepped its counter to this; `None` if it does not name us.
    pub fn on_step(&mut self, server: ServerId, number: Option<u64>) -> Vec<DrawingCommand> {
        if self.stage != Stage::Stepping {
            return Vec::new();
        }
        match number {
            Some(number) => {
                if number > self.greatest {
                    (self.greatest, self.have) = (number, ServerSet::NONE);
                }
                if number == self.greatest {
                    self.have.insert(server);
                }
                self.tally.count(server, Answer::Yes);
            }
            None => self.tally.count(server, Answer::No),
        }
        if !self.tally.is_won() {
            return self.failure();
        }
        self.stage = Stage::Raising;
        self.tally = Tally::new(self.quorum);
        for server in self.have.iter() {
            self.tally.count(server, Answer::Yes);
        }
        if self.tally.is_won() {
            return self.drawn();
        }
        let lag = self.quorum.all().without(self.have);
        lag.iter().map(|server| DrawingCommand::Raise(server, self.greatest)).collect()
    }

    /// A server has raised its counter, or not.
    pub fn on_raise(&mut self, server: ServerId, raised: Raised) -> Vec<DrawingCommand> {
        if self.stage != Stage::Raising {
            return Vec::new();
        }
        match raised {
            Raised::Yes => self.tally.count(server, Answer::Yes),
            Raised::NotOwner => self.tally.count(server, Answer::No),
            Raised::Behind => {
                self.is_behind = true;
                self.tally.count(server, Answer::Unknown);
            }
        }
        if self.tally.is_won() { self.drawn() } else { self.failure() }
    }

    /// A server did not answer what it was last asked. What was asked before it is forgotten.
    pub fn on_unknown(&mut self, server: ServerId) -> Vec<DrawingCommand> {
        self.tally.count(server, Answer::Unknown);
        self.failure()
    }

    /// Nobody waits any longer for those who are silent.
    pub fn on_patience_over(&mut self) -> Vec<DrawingCommand> {
        self.tally.give_up_waiting();
        self.failure()
    }

    fn drawn(&mut self) -> Vec<DrawingCommand> {
        self.stage = Stage::Over;
        vec![DrawingCommand::Drawn(self.greatest)]
    }

    fn failure(&mut self) -> Vec<DrawingCommand> {
        if self.stage == Stage::Over {
            return Vec::new();
        }
        let failure = if self.tally.is_refused() {
            DrawingCommand::Gone
        } else if self.tally.is_out_of_reach() && self.is_behind {
            let (again, commands) = Self::begin(self.quorum);
            *self = again;
            return commands;
        } else if self.tally.is_out_of_reach() {
            DrawingCommand::TooFew
        } else {
            return Vec::new();
        };
        self.stage = Stage::Over;
        vec![failure]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What each server counts, and who has brought it there.
    type Counters = Vec<(u64, usize)>;

    fn obey(
        counters: &mut Counters,
        who: usize,
        command: DrawingCommand,
        draw: &mut Drawing,
    ) -> Vec<DrawingCommand> {
        match command {
            DrawingCommand::Step(server) => {
                let counter = &mut counters[usize::from(server.0)];
                *counter = (counter.0 + 1, who);
                draw.on_step(server, Some(counter.0))
            }
            DrawingCommand::Raise(server, number) => {
                let counter = &mut counters[usize::from(server.0)];
                let raised = match counter.0 < number {
                    true => {
                        *counter = (number, who);
                        Raised::Yes
                    }
                    false if *counter == (number, who) => Raised::Yes,
                    false => Raised::Behind,
                };
                draw.on_raise(server, raised)
            }
            _ => Vec::new(),
        }
    }

    #[test]
    fn a_hold_that_is_gone_on_a_majority_draws_nothing() {
        let (mut draw, steps) = Drawing::begin(Quorum::of(3));
        assert_eq!(steps.len(), 3);
        assert_eq!(draw.on_step(ServerId(0), Some(9)), []);
        assert_eq!(draw.on_step(ServerId(1), None), []);
        assert_eq!(draw.on_step(ServerId(2), None), [DrawingCommand::Gone]);
    }

    #[test]
    fn the_greatest_number_is_written_back_before_it_is_drawn() {
        let (mut draw, _) = Drawing::begin(Quorum::of(3));
        assert_eq!(draw.on_step(ServerId(0), Some(4)), []);
        let raise = |server| DrawingCommand::Raise(ServerId(server), 9);
        assert_eq!(draw.on_step(ServerId(1), Some(9)), [raise(0), raise(2)]);
        assert_eq!(draw.on_unknown(ServerId(2)), []);
        assert_eq!(draw.on_raise(ServerId(0), Raised::Yes), [DrawingCommand::Drawn(9)]);
    }

    proptest! {
        /// Readers that draw at the same time, their requests in any order, on servers that count
        /// differently: all get a number, and no two the same.
        #[test]
        fn concurrent_draws_are_distinct(
            starts in prop::collection::vec(0_u64..6, 5),
            drawers in 2_usize..4,
            order in prop::collection::vec(any::<usize>(), 400),
        ) {
            let mut counters: Counters = starts.into_iter().map(|start| (start, usize::MAX)).collect();
            let (mut draws, mut todo): (Vec<_>, Vec<Vec<_>>) =
                (0..drawers).map(|_| Drawing::begin(Quorum::of(5))).unzip();
            let mut drawn = Vec::new();
            for pick in order.into_iter().chain(0..400) {
                let who = pick % drawers;
                if todo[who].is_empty() { continue }
                let index = pick / drawers % todo[who].len();
                let command = todo[who].swap_remove(index);
                let next = obey(&mut counters, who, command, &mut draws[who]);
                match next[..] {
                    [] => {}
                    [DrawingCommand::Drawn(number)] => { drawn.push(number); todo[who].clear(); }
                    // What was asked before is dropped.
                    _ => todo[who] = next,
                }
            }
            prop_assert_eq!(drawn.len(), drawers);
            drawn.sort_unstable();
            prop_assert!(drawn.is_sorted_by(|one, other| one < other), "{:?}", drawn);
        }

        /// Whatever is answered, once nobody is waited for a draw has ended, once; drawn is what a
        /// majority has confirmed, gone what so many refused that no majority has it.
        #[test]
        fn a_draw_ends(
            servers in 1_u8..8,
            answers in prop::collection::vec((0_u8..8, 0_u8..4), 0..24),
        ) {
            let quorum = Quorum::of(servers);
            let (mut drawing, _) = Drawing::begin(quorum);
            let (mut ends, mut raised, mut refused) = (Vec::new(), ServerSet::NONE, ServerSet::NONE);
            let mut is_raising = false;
            for (server, kind) in answers {
                let server = ServerId(server % servers);
                let commands = match (kind, is_raising) {
                    (0 | 1, false) => {
                        drawing.on_step(server, Some(u64::from(server.0) + 1))
                    }
                    (0 | 1, true) => {
                        if !refused.contains(server) { raised.insert(server); }
                        drawing.on_raise(server, Raised::Yes)
                    }
                    (2, false) => drawing.on_step(server, None),
                    (2, true) => {
                        if !raised.contains(server) { refused.insert(server); }
                        drawing.on_raise(server, Raised::NotOwner)
                    }
                    _ => drawing.on_unknown(server),
                };
                is_raising |= matches!(commands.first(), Some(DrawingCommand::Raise(..)));
                ends.extend(commands.into_iter().filter(|command| {
                    !matches!(command, DrawingCommand::Step(_) | DrawingCommand::Raise(..))
                }));
            }
            ends.extend(drawing.on_patience_over());
            prop_assert_eq!(ends.len(), 1, "{:?}", ends);
            if let (DrawingCommand::Drawn(number), true) = (ends[0], is_raising) {
                // The one that was the greatest has it without being raised.
                let at_it = ServerId(u8::try_from(number).unwrap() - 1);
                prop_assert!(quorum.has(raised.or([at_it].into_iter().collect())));
            }
        }
    }
}
