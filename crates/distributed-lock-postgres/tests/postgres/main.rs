//! Locks on a private PostgreSQL server.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests")]

mod conformance;
mod pooler;
mod python;
mod transaction;
