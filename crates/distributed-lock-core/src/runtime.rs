//! What the runtime in use offers: a refusal instead of tokio's panic.
//!
//! tokio has no way to ask whether a runtime has timers and I/O: what needs them panics. So the first
//! use on each thread tries both out and catches that panic, which the program's panic hook may print;
//! later uses know. A program that is built with `panic = "abort"` ends there, as it would anyway.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::runtime::{Handle, Id};

use crate::error::{LockError, LockResult};

/// What one runtime was found to have.
#[derive(Clone, Copy)]
struct Found {
    runtime: Id,
    timers: bool,
    io: bool,
}

thread_local! {
    /// Of the runtime that was used last on this thread.
    static FOUND: Cell<Option<Found>> = const { Cell::new(None) };
}

/// The runtime in use, which has timers.
///
/// # Errors
/// [`LockError::Config`] outside a runtime, and in one without timers.
pub fn require_timers() -> LockResult<Handle> {
    match current() {
        Some((handle, found)) if found.timers => Ok(handle),
        found => Err(lacks(found.is_some(), "timers (enable_time)")),
    }
}

/// The runtime in use, which has timers and I/O.
///
/// # Errors
/// [`LockError::Config`] outside a runtime, and in one without them.
pub fn require_io() -> LockResult<Handle> {
    match current() {
        Some((handle, found)) if found.timers && found.io => Ok(handle),
        found => Err(lacks(found.is_some(), "timers and I/O (enable_all)")),
    }
}

fn lacks(is_in_runtime: bool, what: &str) -> LockError {
    let where_it_is = if is_in_runtime { "this one lacks them" } else { "there is none here" };
    LockError::Config(format!(
        "this needs a tokio runtime with {what}, and {where_it_is}; code that is not async can use the \
         module `blocking`"
    ))
}

fn current() -> Option<(Handle, Found)> {
    let handle = Handle::try_current().ok()?;
    let runtime = handle.id();
    let found = match FOUND.get() {
        Some(found) if found.runtime == runtime => found,
        _ => {
            let found = Found { runtime, timers: has_timers(), io: has_io() };
            FOUND.set(Some(found));
            found
        }
    };
    Some((handle, found))
}

fn has_timers() -> bool {
    works(|| drop(tokio::time::sleep(Duration::ZERO)))
}

#[cfg(unix)]
fn has_io() -> bool {
    let Ok((one, _)) = std::os::unix::net::UnixStream::pair() else { return true };
    // Refused only if it has no descriptor left, which a later use will say.
    one.set_nonblocking(true).is_err() || works(|| drop(tokio::net::UnixStream::from_std(one)))
}

#[cfg(not(unix))]
fn has_io() -> bool {
    let Ok(socket) = std::net::UdpSocket::bind("127.0.0.1:0") else { return true };
    socket.set_nonblocking(true).is_err() || works(|| drop(tokio::net::UdpSocket::from_std(socket)))
}

fn works(attempt: impl FnOnce()) -> bool {
    cfg!(panic = "abort") || catch_unwind(AssertUnwindSafe(attempt)).is_ok()
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::*;

    fn found(builder: &mut Builder) -> (bool, bool) {
        let runtime = builder.build().unwrap();
        runtime.block_on(async { (require_timers().is_ok(), require_io().is_ok()) })
    }

    #[test]
    fn row_63_what_a_runtime_lacks_is_found_out() {
        for new in [Builder::new_current_thread, Builder::new_multi_thread] {
            assert_eq!(found(&mut new()), (false, false));
            assert_eq!(found(new().enable_time()), (true, false));
            assert_eq!(found(new().enable_io()), (false, false));
            assert_eq!(found(new().enable_all()), (true, true));
            assert_eq!(found(&mut new()), (false, false), "what another had");
        }
    }

    #[test]
    fn row_63_a_refusal_says_what_is_missing() {
        let outside = require_timers().unwrap_err().to_string();
        assert!(
            outside.contains("there is none here") && outside.contains("blocking"),
            "{outside}"
        );
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let inside = runtime.block_on(async { require_io().unwrap_err().to_string() });
        assert!(inside.contains("lacks them") && inside.contains("enable_all"), "{inside}");
    }
}
