//! What must hold, and what is said when it does not.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// What a history is checked for, and with which bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// How long one operation of the workers' providers may take.
    pub operation_timeout: Duration,
    /// What scheduling may add to any bound.
    pub epsilon: Duration,
    /// How soon after a [`FaultEndsHold`](super::What::FaultEndsHold) its holders are told.
    pub loss_told_within: Duration,
    /// Whether the backend promises an order among workers; within one it is always promised.
    pub ordered: bool,
    /// The invariants to check.
    pub check: BTreeSet<Invariant>,
}

/// All invariants, the default options' timeouts, no order among workers.
impl Default for Rules {
    fn default() -> Self {
        Self {
            operation_timeout: Duration::from_secs(2),
            epsilon: Duration::from_millis(500),
            loss_told_within: Duration::from_secs(10),
            ordered: false,
            check: Invariant::ALL.into(),
        }
    }
}

impl Rules {
    /// These rules without one invariant.
    #[must_use]
    pub fn without(mut self, invariant: Invariant) -> Self {
        self.check.remove(&invariant);
        self
    }
}

/// What holds in every history of a right backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// I1: no two exclusive holds of a lock overlap.
    OneExclusive,
    /// I2: no exclusive hold overlaps a shared one.
    ReadersOrWriter,
    /// I3: there are never more holds than permits, counted by the largest `max` among them.
    PermitsBounded,
    /// I4: of two conflicting holds the later has the greater token, and no token comes twice.
    TokensIncrease,
    /// I5: a resource never accepts a token below the highest that it has accepted.
    ResourceFenced,
    /// I6: nobody is overtaken against the promised order.
    NotOvertaken,
    /// I7: every call ends by its deadline and one operation timeout.
    CallsEnd,
    /// I8: every lock is acquired again after the faults have ended.
    AcquirableAfterQuiet,
    /// I9: a holder is told its loss within the bound.
    LossTold,
    /// I10: nobody is told a loss without a fault.
    NoFalseLoss,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::OneExclusive,
        Self::ReadersOrWriter,
        Self::PermitsBounded,
        Self::TokensIncrease,
        Self::ResourceFenced,
        Self::NotOvertaken,
        Self::CallsEnd,
        Self::AcquirableAfterQuiet,
        Self::LossTold,
        Self::NoFalseLoss,
    ];
}

/// Its number and what it says.
impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneExclusive => "I1 no two exclusive holds overlap",
            Self::ReadersOrWriter => "I2 no exclusive hold beside a shared one",
            Self::PermitsBounded => "I3 no more holds than permits",
            Self::TokensIncrease => "I4 later conflicting holds have greater tokens",
            Self::ResourceFenced => "I5 a resource accepts no token below its highest",
            Self::NotOvertaken => "I6 nobody is overtaken",
            Self::CallsEnd => "I7 every call ends in time",
            Self::AcquirableAfterQuiet => "I8 after quiet everything can be acquired",
            Self::LossTold => "I9 a loss is told in time",
            Self::NoFalseLoss => "I10 no loss without a fault",
        })
    }
}

/// One breach of one invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What should have held.
    pub invariant: Invariant,
    /// What happened instead, with a timeline.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.text)
    }
}
