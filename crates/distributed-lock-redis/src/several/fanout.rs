//! One question to several servers, and how long the silent are waited for.

use std::sync::Arc;
use std::time::Duration;

use distributed_lock_core::timers::Timer;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use super::Several;
use crate::redlock::servers::{ServerId, ServerSet};

/// What comes of a question.
pub(super) enum Reply<T> {
    Answer(ServerId, T),
    /// Who has not answered yet is given up.
    Silence,
}

/// Requests to several servers, each with its answer.
///
/// A minority is given up after the time that one server has. While no majority has answered, nothing
/// can be decided without the others, so they have as long as the request may take.
pub(super) struct Fanout<F> {
    several: Arc<Several>,
    answers: FuturesUnordered<F>,
    asked: ServerSet,
    pending: ServerSet,
    /// Until when the silent are waited for if the others can decide, and if they cannot.
    patience: [Instant; 2],
    timer: Timer,
    needs_all: bool,
}

impl<F, T> Fanout<F>
where
    F: Future<Output = (ServerId, T)>,
{
    /// Beginning now.
    pub(super) fn new(several: &Arc<Several>) -> Self {
        let now = Instant::now();
        let patience = [now + several.timing.patience, now + several.longest_wait()];
        Self {
            several: Arc::clone(several),
            answers: FuturesUnordered::new(),
            asked: ServerSet::NONE,
            pending: ServerSet::NONE,
            patience,
            timer: several.timers.set(patience[0]),
            needs_all: false,
        }
    }

    /// Has as long for a minority as for all.
    pub(super) fn of_all(several: &Arc<Several>) -> Self {
        Self { needs_all: true, ..Self::new(several) }
    }

    /// The silent are waited for so long from now on, if the others can decide.
    pub(super) fn wake_in(&mut self, wait: Duration) {
        let [first, last] = &mut self.patience;
        *first = (Instant::now() + wait).min(*last);
        self.timer.reset(*first);
    }

    /// Adds a request, which leaves when the answers are waited for.
    pub(super) fn ask(&mut self, server: ServerId, answer: F) {
        self.answers.push(answer);
        self.asked.insert(server);
        self.pending.insert(server);
    }

    /// Who has not answered.
    pub(super) fn pending(&self) -> ServerSet {
        self.pending
    }

    /// What comes next. May be dropped and called again; with nobody pending, it is silence at some
    /// time.
    pub(super) async fn next(&mut self) -> Reply<T> {
        let answered = self.asked.without(self.pending);
        let can_decide = !self.needs_all && self.several.quorum.has(answered);
        let [first, last] = self.patience;
        if can_decide && Instant::now() >= first {
            self.timer.reset(first);
        }
        loop {
            tokio::select! {
                biased;
                Some((server, answer)) = self.answers.next() => {
                    self.pending.remove(server);
                    return Reply::Answer(server, answer);
                }
                () = &mut self.timer => {
                    if can_decide || Instant::now() >= last {
                        self.several.are_silent(self.pending);
                        return Reply::Silence;
                    }
                    // Set for the others first, since most answers come before either.
                    self.timer.reset(last);
                }
            }
        }
    }

    /// Hears the others out, whose answers the outcome does not depend on any more. A request that
    /// nobody waits for might never leave.
    pub(super) async fn drain(mut self, mut heard: impl FnMut(ServerId, T)) {
        while !self.pending.is_empty() {
            match self.next().await {
                Reply::Answer(server, answer) => heard(server, answer),
                Reply::Silence => return,
            }
        }
    }
}

impl Several {
    pub(super) fn longest_wait(&self) -> Duration {
        longest_wait(self.operation_timeout)
    }
}

/// A little less than the engine allows, so that it hears what became of it.
pub(crate) fn longest_wait(operation_timeout: Duration) -> Duration {
    operation_timeout * 3 / 4
}
