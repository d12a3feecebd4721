//! At most two connects a second to a server that refuses connections or closes them at once.
//!
//! A connection that has answered requests is replaced at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

const WINDOW: Duration = Duration::from_secs(1);

/// What the connects of a window may count together.
const MOST: u32 = 10;

/// What a connect counts while its handshake is not answered: there are two in a window.
const UNANSWERED: u32 = 5;

/// What a connect counts whose handshake was answered, and no request yet: there are six in a window.
const UNUSED: u32 = 1;

/// Paces the connects of one provider to one server.
///
/// An answered request forgets all connects before it.
#[derive(Debug, Default)]
pub(crate) struct ConnectPace {
    /// Whether a request was answered since the last connect began.
    is_in_use: AtomicBool,
    recent: Mutex<VecDeque<Connect>>,
}

#[derive(Debug)]
struct Connect {
    began: Instant,
    counts: u32,
}

impl ConnectPace {
    /// Completes when the next connect is due: it begins then, and this says when.
    ///
    /// Dropping the future before has no effect.
    pub(crate) async fn begin(&self) -> Instant {
        loop {
            match self.try_begin() {
                Ok(began) => return began,
                Err(due) => sleep_until(due).await,
            }
        }
    }

    /// A connect begins now, or `Err` with the time when it is due.
    pub(crate) fn try_begin(&self) -> Result<Instant, Instant> {
        let now = Instant::now();
        let mut recent = self.recent();
        recent.retain(|connect| now < connect.began + WINDOW);
        let mut counts = UNANSWERED + recent.iter().map(|connect| connect.counts).sum::<u32>();
        let mut due = now;
        for connect in &*recent {
            if counts > MOST {
                due = connect.began + WINDOW;
                counts -= connect.counts;
            }
        }
        if due > now {
            return Err(due);
        }
        recent.push_back(Connect { began: now, counts: UNANSWERED });
        self.is_in_use.store(false, Ordering::Relaxed);
        Ok(now)
    }

    /// The server has answered the handshake of the connect that began then.
    pub(crate) fn connected(&self, began: Instant) {
        let mut recent = self.recent();
        recent.iter_mut().filter(|connect| connect.began == began).for_each(|connect| {
            connect.counts = UNUSED;
        });
    }

    /// The server has answered a request.
    pub(crate) fn answered(&self) {
        // Nearly always it has answered the one before, too.
        if !self.is_in_use.load(Ordering::Relaxed) {
            self.recent().clear();
            self.is_in_use.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the server has answered a request since the last connect began.
    pub(crate) fn is_in_use(&self) -> bool {
        self.is_in_use.load(Ordering::Relaxed)
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<Connect>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: Duration = Duration::from_millis(500);

    /// How many connects begin within so many seconds, one right after the other.
    async fn connects(seconds: u32, after_each: impl Fn(&ConnectPace, Instant)) -> u32 {
        let (pace, end) = (ConnectPace::default(), Instant::now() + WINDOW * seconds - HALF);
        let mut connects = 0;
        while let Ok(began) = tokio::time::timeout_at(end, pace.begin()).await {
            connects += 1;
            after_each(&pace, began);
            if connects == 1_000 {
                break;
            }
        }
        connects
    }

    #[tokio::test(start_paused = true)]
    async fn row_74_connects_without_an_answer_are_two_a_second() {
        assert_eq!(connects(5, |_, _| {}).await, 10);
        assert_eq!(connects(5, ConnectPace::connected).await, 30);
        let answered = |pace: &ConnectPace, began| {
            pace.connected(began);
            pace.answered();
        };
        assert_eq!(connects(5, answered).await, 1_000, "not paced");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_answers_again_is_connected_to_at_once() {
        let pace = ConnectPace::default();
        assert!(!pace.is_in_use());
        for _ in 0..3 {
            pace.begin().await;
            pace.begin().await;
            assert_eq!(pace.try_begin(), Err(Instant::now() + WINDOW));
            pace.answered();
            assert!(pace.is_in_use());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_are_due_at_the_same_time_begin_two_at_a_time() {
        let (pace, start) = (&ConnectPace::default(), Instant::now());
        let begin = || async { (pace.begin().await - start).as_secs() };
        let (a, b, c, d, e) = tokio::join!(begin(), begin(), begin(), begin(), begin());
        assert_eq!([a, b, c, d, e], [0, 0, 1, 1, 2]);
    }
}
