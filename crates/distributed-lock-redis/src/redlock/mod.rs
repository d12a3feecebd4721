//! RedLock: one lock on several independent servers, held by whoever holds it on a majority.
//!
//! The algorithm is Redlock as [the Redis documentation] has it, with what it leaves open decided:
//! a majority is always one of *all* servers, also when a lease is extended; whatever was asked for
//! and not won is undone on every server; a server that may have forgotten its locks is not counted
//! ([`guard`]).
//!
//! Waiters of different processes are not served in their order: each server notifies the first in its own
//! queue, and the one that wins a majority has the lock. So under load a wait may be a few times as long
//! as one turn of all waiters, though the lock is not free meanwhile.
//!
//! Everything here is a pure state machine, `on(now, event) -> commands`: no clock, no I/O, no
//! tasks, no randomness. The driver, property tests, a simulated network and a model checker feed
//! the same machines.
//!
//! | machine | decides |
//! |---|---|
//! | [`Round`](round::Round) | who has won one round of requests, and where it must be undone |
//! | [`SentRequests`](sent::SentRequests) | where a round may have votes, and which of its requests may arrive late |
//! | [`Contest`](contest::Contest) | whether there is another round after a split vote, and when |
//! | [`Renewal`](renewal::Renewal) | what an extension on all servers came to |
//! | [`QuorumRelease`](release::QuorumRelease) | when a lock is given back everywhere |
//! | [`Drawing`](drawing::Drawing) | the fencing token |
//! | [`Group`](guard::Group) | which servers count |
//!
//! [the Redis documentation]: https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/

pub mod contest;
pub mod drawing;
pub mod guard;
pub mod release;
pub mod renewal;
pub mod round;
pub mod sent;
pub mod servers;
pub mod tally;
pub mod timing;
