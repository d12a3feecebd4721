//! The life of one lease as a pure state machine: no clock, no I/O, no tasks.
//!
//! The keeper feeds it events and does what it says; property tests and model checkers feed it
//! every order of events.

use std::time::Duration;

use crate::clock::Moment;
use crate::driver::Lease;

/// What happens to a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseEvent {
    /// Time has passed.
    Tick,
    /// The server has extended it.
    Extended(Lease),
    /// An extension failed in a way that says nothing about the lease.
    Unknown,
    /// The server says that the lease is somebody else's or nobody's.
    Refused,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseCommand {
    /// Nothing until this moment.
    SleepUntil(Moment),
    /// Send an extension.
    Extend,
    /// Tell the holder that it has lost the lock.
    Lose(LeaseEnd),
}

/// Why a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseEnd {
    /// It was not extended in time.
    RanOut,
    /// The server refused an extension.
    Refused,
    /// It was held for as long as it may be, see [`LeaseMachine::until`].
    LimitReached,
}

impl LeaseEnd {
    /// What the loss gives as its reason.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::RanOut => "its lease ran out before it was extended",
            Self::Refused => "the server refused to extend it",
            Self::LimitReached => "it was held for as long as max_hold or auto_extend(false) allow",
        }
    }
}

/// One lease, from its grant to its end.
///
/// A failed extension is *unknown*, not *lost*, and is tried again until the deadline; an answer
/// that arrives at or after the deadline changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseMachine {
    cadence: Duration,
    deadline: Moment,
    next: Moment,
    asking: bool,
    /// Not relied on from here, whatever the server grants.
    limit: Moment,
}

impl LeaseMachine {
    /// A lease that was just granted and is to be extended every `cadence`.
    #[must_use]
    pub fn granted(lease: Lease, cadence: Duration) -> Self {
        Self {
            cadence,
            deadline: lease.deadline(),
            next: lease.sent().after(cadence),
            asking: false,
            limit: Moment::NEVER,
        }
    }

    /// Whether an extension that fails can be repeated before the lease ends: sent at the cadence,
    /// silent for as long as one may take, repeated after the pause that follows a failure.
    ///
    /// A lease without that room is lost with the first request that gets no answer, so a backend
    /// refuses such options. Half of `validity` always leaves room.
    #[must_use]
    pub fn leaves_room(validity: Duration, cadence: Duration, operation_timeout: Duration) -> bool {
        let silent = extension_limit(cadence, operation_timeout);
        let repeated = cadence.saturating_add(silent).saturating_add(cadence / 2);
        !cadence.is_zero() && repeated < validity
    }

    /// Ends it at `limit` at the latest. Once it lasts until then it is not extended any more.
    #[must_use]
    pub fn until(mut self, limit: Moment) -> Self {
        self.limit = limit;
        self.stop_at_limit();
        self
    }

    /// From when on the holder may not rely on it.
    #[must_use]
    pub fn deadline(&self) -> Moment {
        self.deadline
    }

    /// How far ahead of time an extension joins those that are due, so that they become a batch.
    #[must_use]
    pub fn reach(&self) -> Duration {
        self.cadence / 4
    }

    /// Whether an extension was sent and not yet answered.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        self.asking
    }

    /// Takes one event and says what to do.
    pub fn on(&mut self, now: Moment, event: LeaseEvent) -> LeaseCommand {
        if now >= self.deadline {
            let limited = self.deadline >= self.limit;
            let end = if limited { LeaseEnd::LimitReached } else { LeaseEnd::RanOut };
            return LeaseCommand::Lose(end);
        }
        match event {
            LeaseEvent::Tick if self.asking => {}
            LeaseEvent::Tick => {
                if now.after(self.reach()) >= self.next {
                    self.asking = true;
                    return LeaseCommand::Extend;
                }
            }
            LeaseEvent::Extended(lease) => {
                self.asking = false;
                self.deadline = self.deadline.max(lease.deadline());
                self.next = lease.sent().after(self.cadence);
                self.stop_at_limit();
            }
            LeaseEvent::Unknown => {
                self.asking = false;
                // Further away than the reach, so that a dead server is not hammered.
                self.next = now.after(self.cadence / 2);
            }
            LeaseEvent::Refused => return LeaseCommand::Lose(LeaseEnd::Refused),
        }
        let due = if self.asking { self.deadline } else { self.next.min(self.deadline) };
        LeaseCommand::SleepUntil(due)
    }

    fn stop_at_limit(&mut self) {
        if self.deadline >= self.limit {
            self.deadline = self.limit;
            self.next = Moment::NEVER;
        }
    }
}

/// How long one extension may take: a longer silence leaves no time for the next one.
pub(crate) fn extension_limit(cadence: Duration, operation_timeout: Duration) -> Duration {
    operation_timeout.min(cadence / 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Moment {
        Moment::from_nanos(seconds * 1_000_000_000)
    }

    fn lease(sent: u64) -> Lease {
        Lease::from_request(at(sent), 30 * SECOND)
    }

    #[test]
    fn extends_at_the_cadence_and_counts_from_the_request() {
        let mut machine = LeaseMachine::granted(lease(0), 10 * SECOND);
        assert_eq!(machine.on(at(1), LeaseEvent::Tick), LeaseCommand::SleepUntil(at(10)));
        assert_eq!(machine.on(at(10), LeaseEvent::Tick), LeaseCommand::Extend);
        let command = machine.on(at(12), LeaseEvent::Extended(lease(10)));
        assert_eq!(command, LeaseCommand::SleepUntil(at(20)));
        assert_eq!(machine.deadline(), at(40));
    }

    #[test]
    fn unknown_is_tried_again_until_the_deadline() {
        let mut machine = LeaseMachine::granted(lease(0), 10 * SECOND);
        assert_eq!(machine.on(at(10), LeaseEvent::Tick), LeaseCommand::Extend);
        let retry = machine.on(at(12), LeaseEvent::Unknown);
        assert_eq!(retry, LeaseCommand::SleepUntil(at(17)));
        assert_eq!(machine.on(at(17), LeaseEvent::Tick), LeaseCommand::Extend);
        let end = machine.on(at(30), LeaseEvent::Extended(lease(17)));
        assert_eq!(end, LeaseCommand::Lose(LeaseEnd::RanOut));
    }

    #[test]
    fn row_62_a_cadence_leaves_room_for_one_failed_extension_or_not() {
        let room = |cadence, timeout| {
            LeaseMachine::leaves_room(10 * SECOND, cadence * SECOND, timeout * SECOND)
        };
        assert!(room(3, 2) && room(3, 60) && room(4, 60) && room(5, 2));
        assert!(!room(8, 2) && !room(6, 2) && !room(5, 60) && !room(0, 2));
        let shortest = Duration::from_nanos(3);
        assert!(LeaseMachine::leaves_room(shortest, shortest / 3, Duration::MAX));
        assert!(!LeaseMachine::leaves_room(shortest, Duration::MAX, Duration::MAX));
    }

    #[test]
    fn it_ends_at_its_limit_and_is_not_extended_for_nothing() {
        let mut machine = LeaseMachine::granted(lease(0), 10 * SECOND).until(at(38));
        assert_eq!(machine.on(at(10), LeaseEvent::Tick), LeaseCommand::Extend);
        let enough = machine.on(at(11), LeaseEvent::Extended(lease(10)));
        assert_eq!(enough, LeaseCommand::SleepUntil(at(38)));
        assert_eq!(machine.on(at(37), LeaseEvent::Tick), LeaseCommand::SleepUntil(at(38)));
        let end = machine.on(at(38), LeaseEvent::Tick);
        assert_eq!(end, LeaseCommand::Lose(LeaseEnd::LimitReached));
        let mut brief = LeaseMachine::granted(lease(0), 10 * SECOND).until(at(5));
        assert_eq!(brief.on(at(4), LeaseEvent::Tick), LeaseCommand::SleepUntil(at(5)));
        assert_eq!(brief.deadline(), at(5));
    }

    proptest! {
        /// Whatever happens, it is never relied on past the last extension that arrived in time,
        /// and it never ends before that without a refusal.
        #[test]
        fn the_deadline_is_that_of_the_last_timely_extension(
            steps in prop::collection::vec((0_u64..12, 0_u8..3), 1..60),
            limit in 1_u64..200,
        ) {
            let mut machine = LeaseMachine::granted(lease(0), 10 * SECOND).until(at(limit));
            let (mut now, mut relied, mut sent) = (0, limit.min(30), None);
            for (passed, kind) in steps {
                now += passed;
                let event = match (kind, sent) {
                    (1, Some(sent)) => LeaseEvent::Extended(lease(sent)),
                    (2, Some(_)) => LeaseEvent::Unknown,
                    _ => LeaseEvent::Tick,
                };
                let command = machine.on(at(now), event);
                if now >= relied {
                    let limited = relied == limit;
                    let end = if limited { LeaseEnd::LimitReached } else { LeaseEnd::RanOut };
                    prop_assert_eq!(command, LeaseCommand::Lose(end));
                    break;
                }
                if let (LeaseEvent::Extended(_), Some(sent)) = (event, sent) {
                    relied = relied.max(sent + 30).min(limit);
                }
                match command {
                    LeaseCommand::Extend => {
                        prop_assert!(relied < limit, "extended for nothing");
                        sent = Some(now);
                    }
                    LeaseCommand::SleepUntil(due) => {
                        prop_assert!(due <= at(relied));
                        if event != LeaseEvent::Tick { sent = None; }
                    }
                    LeaseCommand::Lose(_) => prop_assert!(false, "lost without a reason"),
                }
            }
        }
    }
}
