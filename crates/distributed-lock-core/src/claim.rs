//! A claim: what an attempt and the hold it becomes have in common, and the one place that decides
//! whether a lock was released or lost.

use std::borrow::Cow;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::driver::ReportLoss;
use crate::instruments::Instruments;
use crate::lease::LeaseEnd;
use crate::queue::Ticket;
use crate::sync::{
    AtomicU8, AtomicU64, CancellationToken, Mutex, OnceLock, Ordering, PoisonError, fence,
};

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const LOST: u8 = 2;

/// Open until it is closed by its owner or lost, whichever comes first, and never both.
pub(crate) struct Claim<K: Clone + Eq + Hash> {
    pub(crate) name: Arc<str>,
    fate: AtomicU8,
    /// Nanoseconds of a [`Moment`]; [`Moment::NEVER`] without a lease.
    deadline: AtomicU64,
    /// The same, for the moment that no extension can pass.
    limit: AtomicU64,
    reason: OnceLock<String>,
    /// Why the last extension failed, if it did.
    failure: Mutex<Option<Box<str>>>,
    /// Cancelled by loss only. Made when somebody wants to hear of it.
    signal: OnceLock<CancellationToken>,
    /// What users get: a child of the signal, which they may cancel.
    public: OnceLock<CancellationToken>,
    /// Since it is a hold: when that began, if somebody measures it.
    held_since: OnceLock<Option<Moment>>,
    instruments: Arc<Instruments>,
    pub(crate) ticket: Ticket<K>,
}

impl<K: Clone + Eq + Hash> Claim<K> {
    pub(crate) fn new(name: &Arc<str>, ticket: Ticket<K>, instruments: &Arc<Instruments>) -> Self {
        Self {
            name: Arc::clone(name),
            fate: AtomicU8::new(OPEN),
            deadline: AtomicU64::new(Moment::NEVER.as_nanos()),
            limit: AtomicU64::new(Moment::NEVER.as_nanos()),
            reason: OnceLock::new(),
            failure: Mutex::new(None),
            signal: OnceLock::new(),
            public: OnceLock::new(),
            held_since: OnceLock::new(),
            instruments: Arc::clone(instruments),
            ticket,
        }
    }

    pub(crate) fn signal(&self) -> &CancellationToken {
        let signal = self.signal.get_or_init(CancellationToken::new);
        // A loss sets the fate and then looks for a signal; here a signal is made and then the fate is
        // looked at. With a fence between the two steps on both sides, one of them sees the other.
        fence(Ordering::SeqCst);
        if self.fate.load(Ordering::SeqCst) == LOST {
            signal.cancel();
        }
        signal
    }

    pub(crate) fn public_token(&self) -> &CancellationToken {
        let public = self.public.get_or_init(|| self.signal().child_token());
        // As above: one that was lost since is told by its parent.
        let _ = self.signal();
        public
    }

    /// It is granted.
    pub(crate) fn becomes_a_hold(&self) {
        self.held_since.get_or_init(|| self.instruments.hold_begins(self.ticket.mode()));
        self.ticket.held();
    }

    /// A lease begins, which ends at `limit` at the latest.
    pub(crate) fn begin_lease(&self, deadline: Moment, limit: Moment) {
        self.limit.store(limit.as_nanos(), Ordering::SeqCst);
        self.set_deadline(deadline.min(limit));
    }

    pub(crate) fn set_deadline(&self, deadline: Moment) {
        self.deadline.store(deadline.as_nanos(), Ordering::SeqCst);
    }

    pub(crate) fn limit(&self) -> Moment {
        Moment::from_nanos(self.limit.load(Ordering::SeqCst))
    }

    fn deadline(&self) -> Moment {
        Moment::from_nanos(self.deadline.load(Ordering::SeqCst))
    }

    /// Right even when no task has run since the lease ended: the clock is read now.
    pub(crate) fn is_lost(&self) -> bool {
        let deadline = self.deadline();
        if deadline != Moment::NEVER && self.now() >= deadline {
            let limited = deadline >= self.limit();
            let end = if limited { LeaseEnd::LimitReached } else { LeaseEnd::RanOut };
            self.lose(&self.end_reason(end));
        }
        self.fate.load(Ordering::SeqCst) == LOST
    }

    /// Why the last extension failed; `None` if it did not.
    pub(crate) fn set_failure(&self, failure: Option<&str>) {
        let mut last = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_deref() != failure {
            *last = failure.map(Into::into);
        }
    }

    /// Why a lease ended, with the server's last word if it was not extended in time.
    pub(crate) fn end_reason(&self, end: LeaseEnd) -> Cow<'static, str> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match &*failure {
            Some(failure) if end == LeaseEnd::RanOut => {
                format!("{}: {failure}", end.reason()).into()
            }
            _ => end.reason().into(),
        }
    }

    /// What is left of the lease; `None` without one.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        let deadline = self.deadline();
        if deadline == Moment::NEVER {
            return None;
        }
        Some(if self.is_lost() { Duration::ZERO } else { deadline.since(self.now()) })
    }

    /// Ends the claim by loss, unless it has ended. The holder is told first; then the next local
    /// waiter may go on, because what this one had is gone. Who tries in between waits for that, so
    /// that nobody who was told of the loss finds the lock held by it.
    pub(crate) fn lose(&self, reason: &str) {
        if self.fate.load(Ordering::SeqCst) != OPEN {
            return;
        }
        // If the owner ends it at this moment, it is being released as well.
        self.ticket.ending();
        // Before the end, so that the loss is never seen without its reason. Of two that are reported at
        // the same time either will do.
        let _ = self.reason.set(reason.to_owned());
        if self.end(LOST) {
            fence(Ordering::SeqCst);
            if let Some(signal) = self.signal.get() {
                signal.cancel();
            }
            self.ticket.leave();
            self.tell_the_end(Some(reason));
        }
    }

    /// Ends the claim by its owner's wish.
    ///
    /// # Errors
    /// The reason of the loss, if it was lost before.
    pub(crate) fn close(&self) -> Result<(), String> {
        if !self.is_lost() && self.end(CLOSED) {
            self.tell_the_end(None);
            return Ok(());
        }
        Err(self.loss_reason())
    }

    pub(crate) fn loss_reason(&self) -> String {
        self.reason.get().cloned().unwrap_or_else(|| "it has ended".to_owned())
    }

    /// Tells those who measure, if it was a hold and not only an attempt.
    fn tell_the_end(&self, loss: Option<&str>) {
        if let Some(since) = self.held_since.get() {
            self.instruments.hold_ended(&self.name, self.ticket.mode(), *since, loss);
        }
    }

    fn now(&self) -> Moment {
        self.instruments.clock.now()
    }

    fn end(&self, fate: u8) -> bool {
        self.fate.compare_exchange(OPEN, fate, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

impl<K: Clone + Eq + Hash + Send + Sync> ReportLoss for Claim<K> {
    fn report(&self, reason: String) {
        self.lose(&reason);
    }
}
