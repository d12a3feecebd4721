//! x
pub use distributed_lock_core::*;
