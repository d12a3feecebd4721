//! Listeners for what locks tell: a recorder of metrics and a subscriber of traces.

mod meter;
mod traces;

pub use meter::{Measured, Meter};
pub use traces::{Span, Traces};
