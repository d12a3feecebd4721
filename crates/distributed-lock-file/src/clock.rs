//! The wall clock, as files need it.

use std::time::{Duration, SystemTime};

/// The time since 1970. A clock that is set before that is taken as 1970.
#[expect(clippy::disallowed_methods, reason = "for what other processes read, not for leases")]
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
