//! The server's and the client's errors as [`LockError`]s, and our own.

use std::time::Duration;

use distributed_lock_core::error::LockError;
use thiserror::Error as ThisError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// Refusals that pass by themselves, by SQLSTATE or its class. They end no wait, and `is_retryable`
/// is true for them.
const PASSING: [(&str, &str); 8] = [
    ("25006", "read-only for the moment, or a standby"),
    ("40", "the server undid it: a conflict with recovery, a deadlock among others"),
    ("53", "out of memory, disk, connections or file handles"),
    ("55000", "not in the state for it: recovering, or not accepting connections to the database"),
    ("55006", "the database is in use for something else"),
    ("55P03", "a lock was not free within a time limit"),
    ("57014", "interrupted by an administrator or a time limit"),
    ("58030", "an input or output error of the server's"),
];

/// The server has no room for one more lock: a statement's, or one that a new session needs.
pub(crate) const OUT_OF_MEMORY: &str = "53200";

/// What the server answered is [`LockError::Backend`], and transient if it passes by itself; that it did
/// not answer, or ended the session, is [`LockError::Connection`].
pub(crate) fn classify(error: Error) -> LockError {
    let Some(code) = error.code().cloned() else { return LockError::connection(error) };
    let code = code.code();
    if ends_the_session(code) {
        LockError::connection(error)
    } else if code == OUT_OF_MEMORY {
        LockError::transient(LockTableFull(error))
    } else if passes(code) {
        LockError::transient(error)
    } else {
        LockError::backend(error)
    }
}

pub(crate) fn passes(code: &str) -> bool {
    PASSING.iter().any(|(passing, _)| code.starts_with(passing))
}

/// Classes 08 (connection exception) and 57P (operator intervention: starting up, shutting down,
/// terminated by an administrator): the same request may succeed in another session, or later.
pub(crate) fn ends_the_session(code: &str) -> bool {
    code.starts_with("08") || code.starts_with("57P")
}

/// Whether the server, or this provider, has as many sessions as it may.
pub(crate) fn has_no_room(error: &LockError) -> bool {
    let code = error.find_source::<Error>().and_then(Error::code);
    code == Some(&SqlState::TOO_MANY_CONNECTIONS)
        || error.find_source::<TooManySessions>().is_some()
}

/// Whether the server could not read a name, or found that it means something else.
pub(crate) fn is_about_a_name(error: &LockError) -> bool {
    let code = error.find_source::<Error>().and_then(Error::code).map_or("", SqlState::code);
    // Syntax error or access rule violation, except for a lack of privileges; feature not supported.
    (code.starts_with("42") && code != "42501") || code == "0A000"
}

/// Whether the server ended a statement because somebody asked it to.
pub(crate) fn was_cancelled(error: &LockError) -> bool {
    let code = error.find_source::<Error>().and_then(Error::code);
    code == Some(&SqlState::QUERY_CANCELED)
}

/// Source of [`LockError::Backend`]: the server has no memory for one more lock.
#[derive(Debug, ThisError)]
#[error(
    "the server's lock table is full; raise max_locks_per_transaction there, or hold fewer locks"
)]
pub struct LockTableFull(#[source] pub(crate) Error);

/// Source of [`LockError::Backend`]: this provider holds as many locks as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
#[error(
    "{0} locks are held by this provider, which is its limit (max_held); a full lock table at the \
     server would fail everybody's statements"
)]
pub struct TooManyLocks(pub usize);

/// Source of [`LockError::Backend`]: this provider has as many sessions as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
#[error("all {0} sessions of this provider are in use, which is its limit (max_sessions)")]
pub struct TooManySessions(pub usize);

/// Source of [`LockError::Backend`]: the server is a standby.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
#[error(
    "the server is a standby: its advisory locks are its own and exclude nobody on the primary; \
     connect to the primary, for example with target_session_attrs=read-write"
)]
pub struct Standby;

/// Source of [`LockError::Connection`]: no connection was had in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
#[error("no session with the server within {0:?}")]
pub struct NoConnection(pub Duration);

/// Source of [`LockError::Connection`]: the session ended while it was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
#[error("the session with the server ended")]
pub struct EndedSession;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_54_refusals_that_pass_are_told_apart_by_their_codes() {
        for code in
            ["53300", "53200", "53000", "53100", "25006", "40P01", "40001", "55000", "57014"]
        {
            assert!(passes(code) && !ends_the_session(code), "{code}");
        }
        // Starting up, shutting down, terminated, a lost connection.
        for code in ["57P03", "57P01", "57P02", "57P05", "08006", "08P01"] {
            assert!(ends_the_session(code), "{code}");
        }
        // A wrong password, no such database, no privilege, no such function, a syntax error.
        for code in ["28P01", "28000", "3D000", "42501", "42883", "42601", "22023", "0A000"] {
            assert!(!passes(code) && !ends_the_session(code), "{code}");
        }
    }
}
