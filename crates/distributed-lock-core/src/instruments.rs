//! How the engine tells what happens: the one place that makes spans and touches metrics.
//!
//! Keys of metrics are made once for each provider and mode, so that telling costs no allocation. The
//! recorder is looked up each time: it may be installed later, and tests have one for each thread. The
//! clock is read only for somebody who listens: two readings cost more than everything else here.

use std::cell::Cell;
use std::fmt;
use std::sync::{Arc, OnceLock};

use metrics::{Histogram, IntoF64, Key, Label, Level, Metadata};
use tokio::time::Instant;
use tracing::Span;
use tracing::field::Empty;

use crate::clock::{Clock, Moment, SystemClock};
use crate::driver::Extension;
use crate::error::{LockError, LockResult};
use crate::mode::Mode;
use crate::telemetry::{ACQUIRES, CONTENDED, HOLDING, LOST, RENEWALS, TARGET, WAITING};

/// What a provider's engine tells with, and the clock it measures holds with.
pub(crate) struct Instruments {
    pub(crate) clock: Arc<dyn Clock>,
    backend: &'static str,
    modes: [OnceLock<Keys>; 3],
}

/// The keys of one mode.
struct Keys {
    acquires: [Key; 5],
    contended: Key,
    waiting: Key,
    holding: Key,
    lost: Key,
    renewals: [Key; 3],
}

/// How an acquire ended.
#[derive(Clone, Copy)]
pub(crate) enum Outcome {
    Acquired,
    Held,
    Timeout,
    Cancelled,
    Error,
}

const OUTCOMES: [&str; 5] = ["acquired", "held", "timeout", "cancelled", "error"];
const RENEWED: [&str; 3] = ["extended", "refused", "unknown"];

impl Instruments {
    pub(crate) fn new(backend: &'static str, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, backend, modes: Default::default() })
    }

    /// An acquire begins.
    pub(crate) fn acquiring(self: &Arc<Self>, lock: &str, mode: Mode) -> Acquiring {
        let (backend, word) = (self.backend, word(mode));
        let span = tracing::debug_span!(target: TARGET, "acquire", lock, backend, mode = word, outcome = Empty);
        Acquiring {
            waiting: WaitMark { instruments: Arc::clone(self), mode, since: Arc::default() },
            span,
            outcome: Outcome::Cancelled,
        }
    }

    /// A release begins.
    pub(crate) fn releasing(&self, lock: &str, mode: Mode) -> Span {
        let (backend, word) = (self.backend, word(mode));
        tracing::debug_span!(target: TARGET, "release", lock, backend, mode = word, outcome = Empty)
    }

    /// So many leases are to be extended by one request.
    pub(crate) fn extending(&self, locks: usize) -> Span {
        let backend = self.backend;
        tracing::trace_span!(target: TARGET, "extend", backend, locks, outcome = Empty)
    }

    /// A hold begins: now, if somebody measures it.
    pub(crate) fn hold_begins(&self, mode: Mode) -> Option<Moment> {
        let now = Cell::new(None);
        let read = Lazily(|| {
            now.set(Some(self.clock.now()));
            0.0
        });
        // Recorded not once: whoever listens only has the clock read.
        histogram(&self.keys(mode).holding, |holding| holding.record_many(read, 0));
        now.get()
    }

    /// A hold has ended that began then, by loss if there is a reason.
    pub(crate) fn hold_ended(
        &self,
        lock: &str,
        mode: Mode,
        since: Option<Moment>,
        loss: Option<&str>,
    ) {
        let (keys, backend) = (self.keys(mode), self.backend);
        if let Some(since) = since {
            let held = Lazily(|| self.clock.now().since(since).as_secs_f64());
            histogram(&keys.holding, |holding| holding.record(held));
        }
        if let Some(reason) = loss {
            count(&keys.lost, 1);
            let mode = word(mode);
            tracing::warn!(target: TARGET, lock, backend, mode, reason, "a lock was lost");
        }
    }

    /// One lease was asked to be extended; `None` if the whole request failed.
    pub(crate) fn renewed(&self, mode: Mode, extension: Option<&Extension>) {
        let index = match extension {
            Some(Extension::Extended(_)) => 0,
            Some(Extension::Refused(_)) => 1,
            Some(Extension::Unknown(_)) | None => 2,
        };
        count(&self.keys(mode).renewals[index], 1);
    }

    fn keys(&self, mode: Mode) -> &Keys {
        let index = match mode {
            Mode::Exclusive => 0,
            Mode::Shared => 1,
            Mode::Permit { .. } => 2,
        };
        self.modes[index].get_or_init(|| Keys::new(self.backend, word(mode)))
    }
}

impl Keys {
    fn new(backend: &'static str, mode: &'static str) -> Self {
        let labels = || {
            vec![
                Label::from_static_parts("backend", backend),
                Label::from_static_parts("mode", mode),
            ]
        };
        let plain = |name: &'static str| Key::from_parts(name, labels());
        let with = |name: &'static str, outcome| {
            let mut labels = labels();
            labels.push(Label::from_static_parts("outcome", outcome));
            Key::from_parts(name, labels)
        };
        Self {
            acquires: OUTCOMES.map(|outcome| with(ACQUIRES, outcome)),
            contended: plain(CONTENDED),
            waiting: plain(WAITING),
            holding: plain(HOLDING),
            lost: plain(LOST),
            renewals: RENEWED.map(|outcome| with(RENEWALS, outcome)),
        }
    }
}

fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Exclusive => "exclusive",
        Mode::Shared => "shared",
        Mode::Permit { .. } => "permit",
    }
}

static METADATA: Metadata<'static> = Metadata::new(TARGET, Level::INFO, None);

fn count(key: &Key, events: u64) {
    metrics::with_recorder(|recorder| recorder.register_counter(key, &METADATA).increment(events));
}

fn histogram(key: &Key, record: impl FnOnce(Histogram)) {
    metrics::with_recorder(|recorder| record(recorder.register_histogram(key, &METADATA)));
}

/// A value that is computed for somebody who listens, and otherwise not at all.
struct Lazily<F>(F);

impl<F: FnOnce() -> f64> IntoF64 for Lazily<F> {
    fn into_f64(self) -> f64 {
        (self.0)()
    }
}

/// An acquire under way; counted when it is dropped, as cancelled unless it has ended otherwise.
pub(crate) struct Acquiring {
    pub(crate) span: Span,
    pub(crate) waiting: WaitMark,
    outcome: Outcome,
}

/// Since when an acquire waits; clones share it.
#[derive(Clone)]
pub(crate) struct WaitMark {
    instruments: Arc<Instruments>,
    mode: Mode,
    since: Arc<OnceLock<Instant>>,
}

impl WaitMark {
    /// It has to wait, as of now or already.
    pub(crate) fn set(&self) {
        self.since.get_or_init(|| {
            count(&self.instruments.keys(self.mode).contended, 1);
            Instant::now()
        });
    }
}

impl Acquiring {
    /// It has ended; `tried` if it was not to wait.
    pub(crate) fn ended<T>(mut self, result: &LockResult<Option<T>>, tried: bool) {
        self.outcome = match result {
            Ok(Some(_)) => Outcome::Acquired,
            Ok(None) if tried => Outcome::Held,
            Ok(None) => Outcome::Timeout,
            Err(LockError::Cancelled) => Outcome::Cancelled,
            Err(_) => Outcome::Error,
        };
    }
}

impl Drop for Acquiring {
    fn drop(&mut self) {
        let WaitMark { instruments, mode, since } = &self.waiting;
        let (keys, index) = (instruments.keys(*mode), self.outcome as usize);
        count(&keys.acquires[index], 1);
        self.span.record("outcome", OUTCOMES[index]);
        if let Some(since) = since.get() {
            let waited = Lazily(|| since.elapsed().as_secs_f64());
            histogram(&keys.waiting, |waiting| waiting.record(waited));
        }
    }
}

/// The outcome of a release, for its span.
pub(crate) fn released(span: &Span, result: &LockResult<()>) {
    span.record(
        "outcome",
        match result {
            Ok(()) => "released",
            Err(LockError::LockLost(_)) => "lost",
            Err(_) => "error",
        },
    );
}

/// The outcome of a request that extends, for its span.
pub(crate) fn extended<T>(span: &Span, result: &LockResult<T>) {
    span.record("outcome", if result.is_ok() { "answered" } else { "error" });
}

/// See [`telemetry`](crate::telemetry).
#[doc(hidden)]
pub struct Rehearsal(Arc<Instruments>);

impl Default for Rehearsal {
    fn default() -> Self {
        Self(Instruments::new("rehearsal", Arc::new(SystemClock)))
    }
}

impl Rehearsal {
    /// One uncontended acquire and release.
    pub fn one_lock(&self, name: &str) {
        let acquiring = self.0.acquiring(name, Mode::Exclusive);
        acquiring.span.in_scope(|| {});
        acquiring.ended(&Ok(Some(())), false);
        let since = self.0.hold_begins(Mode::Exclusive);
        let span = self.0.releasing(name, Mode::Exclusive);
        span.in_scope(|| {});
        self.0.hold_ended(name, Mode::Exclusive, since, None);
        released(&span, &Ok(()));
    }
}

impl fmt::Debug for Rehearsal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rehearsal")
    }
}
