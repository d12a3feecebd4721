//! The server's and the client's errors as [`LockError`]s, and our own.

use std::time::Duration;

use distributed_lock_core::error::LockError;
use thiserror::Error as ThisError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// What the server answered is [`LockError::Backend`]; that it did not answer is
/// [`LockError::Connection`].
pub(crate) fn classify(error: Error) -> LockError {
    let Some(refusal) = error.as_db_error() else { return LockError::connection(error) };
    match refusal.code().code() {
        "53200" => LockError::backend(LockTableFull(error)),
        code if ends_the_session(code) => LockError::connection(error),
        _ => LockError::backend(error),
    }
}

/// Classes 08 (connection exception) and 57P (operator intervention), and too many connections: the
/// same request may succeed in another session, or later.
fn ends_the_session(code: &str) -> bool {
    code.starts_with("08") || code.starts_with("57P") || code == "53300"
}

/// Whether the server could not read a name, or found that it means something else.
pub(crate) fn is_about_a_name(error: &LockError) -> bool {
    let code = error.find_source::<Error>().and_then(Error::code).map_or("", SqlState::code);
    // Syntax error or access rule violation, except for a lack of privileges; feature not supported.
    (code.starts_with("42") && code != "42501") || code == "0A000"
}

/// Whether the server ended a statement because somebody asked it to.
pub(crate) fn was_cancelled(error: &LockError) -> bool {
    let LockError::Backend(source) = error else { return false };
    let refusal = source.downcast_ref::<Error>().and_then(Error::code);
    refusal == Some(&SqlState::QUERY_CANCELED)
}

/// Source of [`LockError::Backend`]: the server has no memory for one more lock.
#[derive(Debug, ThisError)]
#[error(
    "the server's lock table is full; raise max_locks_per_transaction there, or hold fewer locks"
)]
pub struct LockTableFull(#[source] Error);

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
