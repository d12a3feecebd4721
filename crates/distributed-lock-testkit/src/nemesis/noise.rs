//! How late things happen on this machine, without any fault: what bounds must allow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::history::now;

const PERIOD: Duration = Duration::from_millis(1);

/// Measures how late a thread is woken, until it is dropped.
#[derive(Debug)]
pub struct Noise {
    worst: Arc<AtomicU64>,
    /// Closed when this is dropped, which ends the thread.
    _running: Sender<()>,
}

impl Noise {
    /// Begins to measure.
    #[must_use]
    pub fn measure() -> Self {
        let (running, ended) = channel();
        let worst = Arc::new(AtomicU64::new(0));
        let meter = Arc::clone(&worst);
        std::thread::spawn(move || listen(&ended, &meter));
        Self { worst, _running: running }
    }

    /// The latest so far.
    #[must_use]
    pub fn worst(&self) -> Duration {
        Duration::from_nanos(self.worst.load(Ordering::Relaxed))
    }
}

fn listen(ended: &Receiver<()>, worst: &AtomicU64) {
    loop {
        let began = now();
        if ended.recv_timeout(PERIOD) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let late = now().saturating_sub(began + PERIOD);
        worst.fetch_max(u64::try_from(late.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
