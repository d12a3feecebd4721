//! What is checked, and how far.

/// The product's machines, or a known mistake around them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// As they are.
    Right,
    /// The lease counts from the last answer, and is never too short.
    NoValidityCheck,
    /// One server less than a majority decides.
    QuorumTooSmall,
    /// What was asked for and not won is left where it is.
    NoCleanUp,
    /// A request that arrives after it was undone is not recognized.
    LateRequestsTaken,
    /// A round that is dropped is forgotten, as the product did before its repair: a reader gets the lock
    /// in the next round and releases it, and the votes of the first have no owner.
    DroppedRoundForgotten,
    /// An answer on one link is taken for one on each, as the product did before its repair.
    AnswerForAllLinks,
    /// A server that restarted without its data counts at once.
    RestartCounted,
    /// An extension needs a majority of the servers that have granted the lock.
    MajorityOfAcquired,
    /// A token is the greatest of a majority's counters, and not written back.
    TokenNotWrittenBack,
    /// The servers' clocks do not go at one speed: no mistake, but what no lease stands.
    ClockJump,
    /// Nor do tokens stand clocks that are further apart than the restart guard is long, if a server
    /// loses its counter, too.
    ClocksApart,
}

impl Variant {
    /// All, the right one first.
    pub const ALL: [Self; 12] = [
        Self::Right,
        Self::NoValidityCheck,
        Self::QuorumTooSmall,
        Self::NoCleanUp,
        Self::LateRequestsTaken,
        Self::DroppedRoundForgotten,
        Self::AnswerForAllLinks,
        Self::RestartCounted,
        Self::MajorityOfAcquired,
        Self::TokenNotWrittenBack,
        Self::ClockJump,
        Self::ClocksApart,
    ];

    /// In words.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Right => "the product",
            Self::NoValidityCheck => "no validity check",
            Self::QuorumTooSmall => "quorum too small",
            Self::NoCleanUp => "no clean-up",
            Self::LateRequestsTaken => "late requests taken",
            Self::DroppedRoundForgotten => "a dropped round forgotten (before its repair)",
            Self::AnswerForAllLinks => "an answer on one link for all (before its repair)",
            Self::RestartCounted => "restart without memory counted",
            Self::MajorityOfAcquired => "majority of the acquired only",
            Self::TokenNotWrittenBack => "token not written back",
            Self::ClockJump => "clock jump",
            Self::ClocksApart => "clocks apart by more than the guard, restart",
        }
    }
}

/// Where a model begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Start {
    /// All servers are free.
    Free,
    /// The first client has just won the lock on the smallest majority; its other requests failed.
    /// Nobody gives up early.
    Held,
}

/// How far a model goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// How many servers there are.
    pub servers: u8,
    /// Where it begins.
    pub start: Start,
    /// How many clients there are.
    pub clients: u8,
    /// How often each client may begin a round.
    pub rounds: u8,
    /// How often the first client may extend what it holds.
    pub extensions: u8,
    /// How many replies may be lost; a lost request is one that never arrives.
    pub losses: u8,
    /// How often a link may be reported closed while what it has sent may still arrive.
    pub leaves: u8,
    /// Whether all clients are readers, who may hold at the same time.
    pub are_readers: bool,
    /// How many times servers may restart without their data.
    pub restarts: u8,
    /// How many times servers' clocks may jump over every lease.
    pub jumps: u8,
    /// How often a holder may try to draw a token.
    pub draws: u8,
    /// By how much the first server's clock is ahead of the others'.
    pub ahead: u8,
    /// For how long a server keeps a lock, in steps of time.
    pub expiry: u8,
    /// When it ends.
    pub ends: u8,
}

impl Bounds {
    /// Three servers, two clients, a round each.
    #[must_use]
    pub fn rounds() -> Self {
        Self {
            servers: 3,
            clients: 2,
            start: Start::Free,
            rounds: 1,
            extensions: 0,
            losses: 0,
            leaves: 0,
            are_readers: false,
            restarts: 0,
            jumps: 0,
            draws: 0,
            ahead: 0,
            expiry: 2,
            ends: 3,
        }
    }

    /// Three servers, two clients: a hold that is extended, a lost reply, a restart.
    #[must_use]
    pub fn hold() -> Self {
        Self { start: Start::Held, extensions: 1, losses: 1, restarts: 1, ..Self::rounds() }
    }

    /// Three servers, two clients, a hold and the next: a link is left, and what was sent on it arrives
    /// late.
    #[must_use]
    pub fn links() -> Self {
        Self { start: Start::Held, leaves: 1, ends: 2, ..Self::rounds() }
    }

    /// Three servers, a reader: it may drop its first round and begin another, and a link is left.
    #[must_use]
    pub fn readers() -> Self {
        let (clients, rounds) = (1, 2);
        Self { clients, rounds, are_readers: true, leaves: 1, expiry: 1, ends: 1, ..Self::rounds() }
    }

    /// Five servers, two clients: a hold that is extended.
    #[must_use]
    pub fn five() -> Self {
        Self { servers: 5, losses: 0, restarts: 0, ends: 2, ..Self::hold() }
    }

    /// As [`rounds`](Self::rounds), with an extension and a restart beside.
    #[must_use]
    pub fn everything() -> Self {
        Self { extensions: 1, restarts: 1, ends: 2, ..Self::rounds() }
    }

    /// Three servers, two clients: a hold and the next, each with a token.
    #[must_use]
    pub fn tokens() -> Self {
        Self { start: Start::Held, draws: 1, ahead: 4, ends: 2, ..Self::rounds() }
    }

    /// As [`tokens`](Self::tokens), with a server that restarts without its data.
    #[must_use]
    pub fn tokens_and_restart() -> Self {
        Self { restarts: 1, ahead: 1, ..Self::tokens() }
    }

    /// As [`tokens`](Self::tokens), with a clock that jumps. There may be two holders then; what is
    /// checked is that tokens grow all the same.
    #[must_use]
    pub fn tokens_and_jump() -> Self {
        Self { jumps: 1, ..Self::tokens() }
    }

    /// The smallest in which a variant shows what it does.
    #[must_use]
    pub fn telling(variant: Variant) -> Self {
        match variant {
            Variant::RestartCounted => Self::hold(),
            Variant::LateRequestsTaken | Variant::AnswerForAllLinks => Self::links(),
            Variant::DroppedRoundForgotten => Self::readers(),
            // Among three servers a majority of two is two.
            Variant::MajorityOfAcquired => Self::five(),
            Variant::TokenNotWrittenBack => Self::tokens(),
            Variant::ClocksApart => Self { restarts: 1, ..Self::tokens() },
            Variant::ClockJump => Self { jumps: 1, ..Self::rounds() },
            _ => Self::rounds(),
        }
    }
}

impl std::fmt::Display for Bounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { servers, start, rounds, expiry, ends, .. } = self;
        let start = match start {
            Start::Free => "free",
            Start::Held => "held",
        };
        let readers = if self.are_readers { ", readers" } else { "" };
        write!(f, "{servers} servers, {start} at first{readers}, lease {expiry} of {ends} steps")?;
        let Self { extensions, losses, leaves, restarts, jumps, draws, .. } = self;
        let counts = [
            (rounds, "round"),
            (extensions, "extension"),
            (losses, "lost reply"),
            (leaves, "link left"),
            (restarts, "restart"),
            (jumps, "clock jump"),
            (draws, "draw"),
        ];
        for (count, what) in counts.into_iter().filter(|(count, _)| **count > 0) {
            write!(f, ", {count} {what}")?;
        }
        Ok(())
    }
}
