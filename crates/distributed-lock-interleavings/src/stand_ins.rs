//! What claims name and the order of events does not depend on.

use std::sync::Arc;

use distributed_lock_core::Mode;
use distributed_lock_core::clock::Moment;

/// Telemetry that tells nothing, and a clock that stands still.
pub(crate) struct Instruments {
    pub(crate) clock: StandingClock,
}

pub(crate) struct StandingClock;

impl StandingClock {
    pub(crate) fn now(&self) -> Moment {
        Moment::from_nanos(0)
    }
}

impl Instruments {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { clock: StandingClock })
    }

    pub(crate) fn hold_begins(&self, _: Mode) -> Option<Moment> {
        None
    }

    pub(crate) fn hold_ended(&self, _: &str, _: Mode, _: Option<Moment>, _: Option<&str>) {}
}
