//! One attempt, from its first request to its end, and what its client believes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use distributed_lock_core::clock::Moment;
use distributed_lock_core::driver::{Driver, Granted};
use distributed_lock_core::error::LockResult;
use distributed_lock_core::{FencingToken, Mode};
use tokio::task::JoinHandle;

use super::engine::Shared;

pub(super) type Acquiring<D> = JoinHandle<LockResult<Option<Granted<<D as Driver>::Grant>>>>;

/// What an attempt's client does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Acquiring,
    Held,
    Releasing,
    Withdrawing,
    /// Released, withdrawn or refused: it has no effect from here on.
    Done,
    /// Its clean-up failed for a whole lease.
    Abandoned,
    /// Its client has died.
    Dead,
}

pub(super) struct Contender<D: Driver> {
    pub(super) client: usize,
    pub(super) mode: Mode,
    /// Whether it only tries.
    pub(super) tries: bool,
    pub(super) token: String,
    pub(super) attempt: Shared<D>,
    pub(super) stage: Stage,
    pub(super) acquiring: Option<Acquiring<D>>,
    pub(super) cleaning: Option<JoinHandle<LockResult<()>>>,
    pub(super) drawing: Option<JoinHandle<LockResult<FencingToken>>>,
    /// The first request of its clean-up was answered: others of its process go on.
    pub(super) answered: Arc<AtomicBool>,
    pub(super) grant: Option<Arc<D::Grant>>,
    pub(super) deadline: Moment,
    /// The first and the last step at which its client believed to hold.
    pub(super) held: Option<(usize, Option<usize>)>,
    pub(super) drawn: Option<u64>,
    /// A clock went forward while it held or asked: its lease may have ended early.
    pub(super) doubtful: bool,
    /// How many requests had been executed when its own first was.
    pub(super) asked: Option<usize>,
    /// How many had been when a server first had it in its queue.
    pub(super) queued: Option<usize>,
    /// While it asked, others held or waited.
    pub(super) was_blocked: bool,
    /// Who waited before it when the server made it an owner.
    pub(super) overtakes: Option<usize>,
}

impl<D: Driver> Contender<D> {
    /// Whether its client believes to hold.
    pub(super) fn believes(&self, now: Moment) -> bool {
        self.stage == Stage::Held && now < self.deadline
    }

    /// Whether the client's local queue lets nobody else ask.
    pub(super) fn occupies(&self) -> bool {
        match self.stage {
            Stage::Acquiring => true,
            Stage::Releasing | Stage::Withdrawing => !self.answered.load(Ordering::Relaxed),
            _ => false,
        }
    }

    pub(super) fn conflicts(&self, mode: Mode) -> bool {
        !matches!(
            (self.mode, mode),
            (Mode::Shared, Mode::Shared) | (Mode::Permit { .. }, Mode::Permit { .. })
        )
    }

    pub(super) fn abort(&mut self) {
        if let Some(task) = self.acquiring.take() {
            task.abort();
        }
        if let Some(task) = self.cleaning.take() {
            task.abort();
        }
        if let Some(task) = self.drawing.take() {
            task.abort();
        }
    }
}

/// What a task has brought, if it has ended by itself.
pub(super) fn ended<T>(task: &mut Option<JoinHandle<T>>) -> Option<T> {
    let handle = task.as_mut().filter(|handle| handle.is_finished())?;
    let polled = std::pin::Pin::new(handle).poll(&mut Context::from_waker(Waker::noop()));
    *task = None;
    match polled {
        Poll::Ready(Ok(result)) => Some(result),
        Poll::Ready(Err(error)) if error.is_panic() => {
            std::panic::resume_unwind(error.into_panic())
        }
        _ => None,
    }
}
