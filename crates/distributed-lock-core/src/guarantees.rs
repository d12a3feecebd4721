//! What a provider promises, as data.

use std::time::Duration;

/// What a provider can and cannot promise. Read it where a wrong assumption would cost something.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Guarantees {
    /// What ends a hold besides its release.
    pub hold_ends: HoldEnds,
    /// The longest time from the end of a hold to the holder being told, with the options in use.
    pub loss_told_within: Duration,
    /// What fencing tokens survive.
    pub tokens: TokenDurability,
    /// In which order processes that wait are served. Within a process it is always first come,
    /// first served.
    pub order: WaitOrder,
    /// What tokens can be compared with each other, and with nothing else.
    pub token_domain: &'static str,
}

impl Guarantees {
    /// Guarantees of a backend without tokens and without an order; a driver says what is better.
    #[must_use]
    pub fn new(hold_ends: HoldEnds, loss_told_within: Duration) -> Self {
        Self {
            hold_ends,
            loss_told_within,
            tokens: TokenDurability::None,
            order: WaitOrder::Unordered,
            token_domain: "none",
        }
    }

    /// Says what tokens survive and what they can be compared with.
    #[must_use]
    pub fn with_tokens(mut self, tokens: TokenDurability, domain: &'static str) -> Self {
        self.tokens = tokens;
        self.token_domain = domain;
        self
    }

    /// Says in which order processes that wait are served.
    #[must_use]
    pub fn with_order(mut self, order: WaitOrder) -> Self {
        self.order = order;
        self
    }
}

/// What ends a hold besides its release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HoldEnds {
    /// The death of the process, or somebody removing what the lock stands on.
    WithProcess,
    /// The end of the session with the server.
    WithSession,
    /// The end of a lease that is not renewed in time; this is its length.
    WithLease(Duration),
}

/// What fencing tokens survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenDurability {
    /// There are none.
    None,
    /// They go on increasing while the store is up; a new store starts again.
    WhileRunning,
    /// They go on increasing after a crash of the store, not after the loss of its data.
    SurviveCrash,
    /// They go on increasing even after the loss of the store's data, unless its clock went back by
    /// more than the store was in use.
    SurviveDataLoss,
}

/// In which order waiting processes are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitOrder {
    /// Whoever comes first when the lock is free.
    Unordered,
    /// First come, first served, while the connections of those who wait last, and for a wait that did not
    /// have to begin anew for the sake of others (PostgreSQL: after 50 s, while an index is built).
    FirstComeFirstServed,
}
