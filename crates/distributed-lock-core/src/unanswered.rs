//! Which requests of one attempt may still take effect, and for how long.

use std::time::Duration;

/// A request that was not answered arrives no later than this after it was sent.
///
/// A connection that was closed for its client may still deliver: the client's kernel sends again for a
/// while, and a proxy on the way that has accepted the bytes does so for 924 s with Linux's defaults
/// (`tcp_retries2`). A stopped server reads what has arrived when it goes on. Only a proxy that is itself
/// stopped for longer can deliver later.
pub const LATEST_ARRIVAL: Duration = Duration::from_secs(16 * 60);

/// The connections on which requests of one attempt have left and were not answered.
///
/// A server answers the requests of one connection in their order. So an answer settles every request
/// that left before it on the same connection, and none that left on another: a connection that was
/// reported closed may still deliver what a proxy or a buffer holds.
///
/// ```
/// use distributed_lock_core::unanswered::Unanswered;
///
/// let mut unanswered = Unanswered::default();
/// unanswered.sent(7);
/// // The connection is given up and the request repeated on the next.
/// unanswered.sent(8);
/// unanswered.answered(&8);
/// assert!(!unanswered.is_empty(), "the first copy may still arrive");
/// assert!(unanswered.may_follow(&8));
/// ```
#[derive(Debug, Clone)]
pub struct Unanswered<C>(Vec<C>);

impl<C> Default for Unanswered<C> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<C: PartialEq> Unanswered<C> {
    /// A request leaves on this connection. Call it before the request is written.
    pub fn sent(&mut self, connection: C) {
        if !self.0.contains(&connection) {
            self.0.push(connection);
        }
    }

    /// The last request on this connection was answered, and with it all before.
    pub fn answered(&mut self, connection: &C) {
        self.0.retain(|other| other != connection);
    }

    /// Whether every request was answered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a request may reach the server after one that leaves on this connection now.
    #[must_use]
    pub fn may_follow(&self, connection: &C) -> bool {
        self.0.iter().any(|other| other != connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_settles_only_its_own_connection() {
        let mut unanswered = Unanswered::default();
        for connection in [1, 2, 1] {
            unanswered.sent(connection);
        }
        assert!(unanswered.may_follow(&1) && unanswered.may_follow(&2));
        unanswered.answered(&1);
        assert!(!unanswered.may_follow(&2) && unanswered.may_follow(&3));
        unanswered.answered(&2);
        assert!(unanswered.is_empty() && !unanswered.may_follow(&3));
    }
}
