//! What threads share. The queue and the claims take it from here, so that a model checker can run the same
//! files with its own (`distributed-lock-interleavings`).

pub(crate) use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};
pub(crate) use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

pub(crate) use tokio_util::sync::CancellationToken;
