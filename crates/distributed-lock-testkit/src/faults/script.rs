//! Which calls of a driver go wrong, and how.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The calls of a driver that reach its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// [`Driver::try_acquire`](distributed_lock_core::driver::Driver::try_acquire).
    TryAcquire,
    /// [`Driver::wait`](distributed_lock_core::driver::Driver::wait).
    Wait,
    /// [`Driver::withdraw`](distributed_lock_core::driver::Driver::withdraw).
    Withdraw,
    /// [`Driver::extend`](distributed_lock_core::driver::Driver::extend).
    Extend,
    /// [`Driver::release`](distributed_lock_core::driver::Driver::release).
    Release,
    /// [`Driver::fencing_token`](distributed_lock_core::driver::Driver::fencing_token).
    FencingToken,
}

impl Call {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::TryAcquire,
        Self::Wait,
        Self::Withdraw,
        Self::Extend,
        Self::Release,
        Self::FencingToken,
    ];
}

/// How a call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Ok,
    /// The server refuses: `Backend`, without an effect.
    Refused,
    /// The server refuses for the moment: a transient `Backend`, without an effect.
    RefusedForNow,
    /// The request does not reach the server: `Connection`, without an effect.
    Cut,
    /// The request takes effect, its reply is lost: `Connection`.
    ReplyLost,
    /// The request does not reach the server, and nobody says so.
    SilentBefore,
    /// The request takes effect, and then nothing more is heard.
    SilentAfter,
    /// The request takes effect at once, and its reply comes this much later.
    Late(Duration),
}

impl Outcome {
    /// All the wrong ones that say nothing about a time.
    pub const WRONG: [Self; 6] = [
        Self::Refused,
        Self::RefusedForNow,
        Self::Cut,
        Self::ReplyLost,
        Self::SilentBefore,
        Self::SilentAfter,
    ];
}

/// Which calls of a kind go wrong, until the script is [healed](Script::heal).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// This one, counted from 1.
    Nth(u64),
    /// This one and all that follow.
    From(u64),
}

/// What a [`FaultyDriver`](super::FaultyDriver) does, shared with the test. Clones are the same
/// script; an empty one changes nothing.
#[derive(Debug, Clone, Default)]
pub struct Script(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    faults: HashMap<Call, (When, Outcome)>,
    calls: HashMap<Call, u64>,
    struck: u64,
}

impl Script {
    /// Spoils calls of one kind, counted from the driver's first.
    pub fn spoil(&self, call: Call, when: When, outcome: Outcome) {
        self.lock().faults.insert(call, (when, outcome));
    }

    /// From now on every new call goes well; those that hang still hang.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// How many calls of a kind there were.
    #[must_use]
    pub fn calls(&self, call: Call) -> u64 {
        self.lock().calls.get(&call).copied().unwrap_or(0)
    }

    /// How many calls were spoiled.
    #[must_use]
    pub fn struck(&self) -> u64 {
        self.lock().struck
    }

    /// Whether the next call of this kind would go wrong.
    pub(super) fn spoils_next(&self, call: Call) -> bool {
        let state = self.lock();
        let number = state.calls.get(&call).copied().unwrap_or(0) + 1;
        state.outcome(call, number) != Outcome::Ok
    }

    /// Counts a call, and says how it ends.
    pub(super) fn next(&self, call: Call) -> Outcome {
        let mut state = self.lock();
        let number = state.calls.entry(call).or_default();
        *number += 1;
        let number = *number;
        let outcome = state.outcome(call, number);
        state.struck += u64::from(outcome != Outcome::Ok);
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn outcome(&self, call: Call, number: u64) -> Outcome {
        match self.faults.get(&call) {
            Some((When::Nth(nth), outcome)) if number == *nth => *outcome,
            Some((When::From(first), outcome)) if number >= *first => *outcome,
            _ => Outcome::Ok,
        }
    }
}
