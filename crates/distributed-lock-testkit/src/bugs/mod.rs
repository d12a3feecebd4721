//! Seeded bugs: drivers that are wrong on purpose, to see what the [history](crate::history) checker
//! is worth. Each is a mistake that people make, and each must be caught by the invariant it breaks.
//!
//! | bug | what goes wrong | caught by |
//! |---|---|---|
//! | [`ReleaseIgnoresToken`](Bug::ReleaseIgnoresToken) | a late release frees the next holder's lock | I1 |
//! | [`DeadlineFromReply`](Bug::DeadlineFromReply) | a holder goes on when the next one has begun | I1 |
//! | [`TokensFromClientClock`](Bug::TokensFromClientClock) | a later holder gets the smaller token | I4 |
//! | [`NoCleanUp`](Bug::NoCleanUp) | what a failed attempt took is never free again | I8 |
//! | [`PlaceNotWithdrawn`](Bug::PlaceNotWithdrawn) | all wait behind one who has gone | I8 |
//! | [`ModesApart`](Bug::ModesApart) | a writer beside a reader | I2 |
//! | [`PermitsOffByOne`](Bug::PermitsOffByOne) | a holder too many | I3 |
//!
//! [`Buggy`] wraps any driver; [`Queued`] adds a queue to a driver that has none.
//! [`Link`] makes requests and replies slow, without which most of these bugs do no harm; a [`World`]
//! is a server in memory with clients who log their history, a [`Stage`] is for those of any server.

mod driver;
mod link;
mod queued;
mod worker;
mod world;

use crate::history::Invariant;

pub use driver::{Buggy, BuggyGrant, Free, Ledger};
pub use link::Link;
pub use queued::{Queue, Queued};
pub use worker::{Stage, Worker};
pub use world::{Options, World, rehearse};

/// What a driver does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bug {
    /// A release frees the lock, whoever holds it when it arrives.
    ReleaseIgnoresToken,
    /// A lease is counted from when its reply came, not from before its request was sent.
    DeadlineFromReply,
    /// Fencing tokens are the time of the client's own clock.
    TokensFromClientClock,
    /// An attempt that failed or was dropped is not undone.
    NoCleanUp,
    /// Who gives up waiting stays in the queue.
    PlaceNotWithdrawn,
    /// The shared and the exclusive lock of a name are two locks.
    ModesApart,
    /// One permit too many.
    PermitsOffByOne,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ReleaseIgnoresToken,
        Self::DeadlineFromReply,
        Self::TokensFromClientClock,
        Self::NoCleanUp,
        Self::PlaceNotWithdrawn,
        Self::ModesApart,
        Self::PermitsOffByOne,
    ];

    /// What it breaks.
    #[must_use]
    pub fn breaks(self) -> Invariant {
        match self {
            Self::ReleaseIgnoresToken | Self::DeadlineFromReply => Invariant::OneExclusive,
            Self::TokensFromClientClock => Invariant::TokensIncrease,
            Self::NoCleanUp | Self::PlaceNotWithdrawn => Invariant::AcquirableAfterQuiet,
            Self::ModesApart => Invariant::ReadersOrWriter,
            Self::PermitsOffByOne => Invariant::PermitsBounded,
        }
    }
}
