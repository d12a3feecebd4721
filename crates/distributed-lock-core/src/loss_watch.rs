//! One wake-up for the loss of any of many locks.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::traits::LockHandle;

/// Watches any number of locks at the cost of one: a lock that is added is polled once, and only the
/// loss of one of them has anything polled again.
#[derive(Default)]
pub(crate) struct LossWatch {
    any: Arc<AnyLoss>,
    watched: Vec<Pin<Box<WaitForCancellationFutureOwned>>>,
}

#[derive(Default)]
struct AnyLoss {
    is_lost: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl LossWatch {
    pub(crate) fn add(&mut self, handle: &impl LockHandle) {
        let mut loss = Box::pin(handle.loss_signal().clone().cancelled_owned());
        let waker = Waker::from(Arc::clone(&self.any));
        if loss.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            self.any.is_lost.store(true, Ordering::SeqCst);
        }
        self.watched.push(loss);
    }

    /// Whether a loss was signalled; if not, one wakes the task.
    pub(crate) fn wake_on_loss(&self, context: &mut Context<'_>) -> bool {
        let mut task = self.any.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !task.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *task = Some(context.waker().clone());
        }
        drop(task);
        self.any.is_lost.load(Ordering::SeqCst)
    }
}

impl Wake for AnyLoss {
    fn wake(self: Arc<Self>) {
        self.is_lost.store(true, Ordering::SeqCst);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl fmt::Debug for LossWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LossWatch").field("watched", &self.watched.len()).finish_non_exhaustive()
    }
}
