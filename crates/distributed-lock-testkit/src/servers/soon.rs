//! Waiting for what cannot wake us: other processes, and threads that only tell by a flag.

use std::time::Duration;

use crate::history::now;

const PACE: Duration = Duration::from_millis(2);

/// Looks until `is_so`; false if it was not within `limit`.
#[expect(clippy::disallowed_methods, reason = "what is waited for raises no event")]
pub(crate) fn within(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = now() + limit;
    loop {
        if is_so() {
            return true;
        }
        if now() >= deadline {
            return false;
        }
        std::thread::sleep(PACE);
    }
}
