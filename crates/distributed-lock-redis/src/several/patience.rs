//! How long silent servers are waited for.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::Several;
use crate::redlock::servers::{Quorum, ServerSet};

/// The patience with one request to all servers.
///
/// A minority is given up after the time that one server has. While a majority is silent, nothing
/// can be decided without it, so it has as long as the request may take.
pub(super) struct Patience {
    quorum: Quorum,
    with_a_minority: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Patience {
    /// Completes when those who have not answered yet are given up. May be dropped and called again.
    pub(super) async fn is_over(&mut self, pending: ServerSet) {
        let others = self.quorum.all().without(pending);
        if self.quorum.has(others) && self.timer.deadline() > self.with_a_minority {
            self.timer.as_mut().reset(self.with_a_minority);
        }
        self.timer.as_mut().await;
    }
}

impl Several {
    /// Beginning now.
    pub(super) fn patience(&self) -> Patience {
        let now = Instant::now();
        Patience {
            quorum: self.quorum,
            with_a_minority: now + self.timing.patience,
            timer: Box::pin(sleep_until(now + self.longest_wait())),
        }
    }

    pub(super) fn longest_wait(&self) -> Duration {
        longest_wait(self.operation_timeout)
    }
}

/// A little less than the engine allows, so that it hears what became of it.
pub(crate) fn longest_wait(operation_timeout: Duration) -> Duration {
    operation_timeout * 3 / 4
}
