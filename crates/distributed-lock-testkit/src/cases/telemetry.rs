//! What a recorder of metrics and a subscriber of traces hear.

use std::future::Future;
use std::sync::LazyLock;

use distributed_lock_core::error::LockError;
use distributed_lock_core::telemetry::{ACQUIRES, CONTENDED, HOLDING, LOST, WAITING};
use distributed_lock_core::traits::{LockHandle, LockProviderExt, Provider};
use tokio::time::{Instant, timeout};
use tracing::Dispatch;

use super::two_processes;
use crate::backend::Backend;
use crate::bounds::{CASE_LIMIT, SLACK, WATCHED_FOR, within};
use crate::listening::{Meter, Traces};
use crate::runtimes::current_thread;
use crate::verdicts::{assert_error, granted, refused};

pub(super) const ALL: (&str, &str) = ("", "");

/// Acquires are counted by what came of them; those that waited and what was held is measured.
pub fn acquires_and_holds_are_measured(backend: &impl Backend) {
    let heard = heard(async {
        let (here, there, name) = two_processes(backend, "metrics").await;
        let began = Instant::now();
        let held = granted(there.try_acquire_lock(&name).await);
        refused(here.try_acquire_lock(&name).await);
        let late = here.acquire_lock(&name, Some(WATCHED_FOR)).await;
        assert_error!(late, LockError::Timeout(_));
        let dropped = timeout(WATCHED_FOR, here.acquire_lock(&name, None)).await;
        assert!(dropped.is_err(), "it had the lock while it was held elsewhere");
        held.release().await.expect("a clean release");
        let held_for = began.elapsed();
        drop(here.acquire_lock(&name, Some(SLACK)).await.expect("a free lock"));
        here.shutdown().await;
        assert_error!(here.try_acquire_lock(&name).await, LockError::Cancelled);
        held_for
    });
    let (meter, held_for) = (heard.meter, heard.result);
    let ended = |outcome| meter.count(ACQUIRES, ("outcome", outcome));
    assert_eq!(
        [ended("acquired"), ended("held"), ended("timeout"), ended("cancelled")],
        [2, 1, 1, 2]
    );
    assert_eq!(meter.count(ACQUIRES, ALL), 6);
    let (contended, waits) = (meter.count(CONTENDED, ALL), meter.values(WAITING, ALL));
    // The last one may find the withdrawal of the dropped one under way.
    assert!((2..=3).contains(&contended) && waits.len() == contended, "{contended} {waits:?}");
    let long = waits.iter().filter(|wait| **wait > WATCHED_FOR.as_secs_f64() / 2.0).count();
    assert_eq!(long, 2, "{waits:?}");
    let holds = meter.values(HOLDING, ALL);
    let longest = holds.iter().copied().fold(0.0, f64::max);
    let bounds = WATCHED_FOR.as_secs_f64() * 2.0..=held_for.as_secs_f64();
    assert!(holds.len() == 2 && bounds.contains(&longest), "{holds:?}");
    assert_eq!(meter.count(LOST, ALL), 0);
    for measured in meter.measured() {
        let word = |label| measured.labels.get(label).is_some_and(|word| !word.is_empty());
        assert!(word("backend") && word("mode"), "{measured:?}");
    }
}

/// Each acquire and release is a span, whose every declared field is recorded.
pub fn acquires_and_releases_are_spans(backend: &impl Backend) {
    let heard = heard(async {
        let (here, _, name) = two_processes(backend, "spans").await;
        granted(here.try_acquire_lock(&name).await).release().await.expect("a clean release");
        name
    });
    for (span, outcome) in [("acquire", "acquired"), ("release", "released")] {
        let spans = heard.traces.spans();
        let mut of_it = spans.iter().filter(|other| other.name == span);
        let span = of_it.next().expect("a span");
        assert_eq!(of_it.next(), None, "one call, one span");
        assert_eq!(span.recorded.get("lock").map(String::as_str), Some(&*heard.result));
        assert_eq!(span.recorded.get("outcome").map(String::as_str), Some(outcome));
        assert_eq!(span.recorded.len(), span.declared.len(), "{span:?}");
    }
}

/// What a case came to, and what was heard meanwhile.
pub(super) struct Heard<T> {
    pub(super) result: T,
    pub(super) meter: Meter,
    pub(super) traces: Traces,
}

/// Runs a case on this thread alone, and listens.
pub(super) fn heard<T>(case: impl Future<Output = T>) -> Heard<T> {
    // Whether an event is worth anything is remembered by its first use. If there is one subscriber
    // only, tracing asks that of the thread which comes first, and that may be another case's, which
    // has none. Of two subscribers it asks both.
    static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Traces::default()));
    LazyLock::force(&SECOND);
    let (meter, traces) = (Meter::default(), Traces::default());
    let result = tracing::subscriber::with_default(traces.clone(), || {
        metrics::with_local_recorder(&meter, || {
            current_thread().block_on(within(CASE_LIMIT, "the whole case", case))
        })
    });
    Heard { result, meter, traces }
}
