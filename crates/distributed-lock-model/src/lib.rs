//! The machines of `distributed_lock_redis::redlock` under a model checker: clients that drive the
//! product's own code against modelled servers, in every order of events within bounds.
//!
//! What the machines must prevent is shown by leaving out what prevents it: each [`Variant`] but
//! the first is a known mistake, made here and not in the product, and the checker must find out.

mod check;
mod client;
mod guard_variant;
mod guarded;
mod server;
mod table;
mod variant;
mod world;

pub use check::{Report, check, check_guard};
pub use guard_variant::{GuardStart, GuardVariant};
pub use table::table;
pub use variant::{Bounds, Start, Variant};
