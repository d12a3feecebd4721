//! The server's and the client's errors as [`LockError`]s.

use distributed_lock_core::error::LockError;
use tokio_postgres::Error;

/// What the server answered is [`LockError::Backend`]; that it did not answer is
/// [`LockError::Connection`].
pub(crate) fn classify(error: Error) -> LockError {
    match error.as_db_error() {
        // The server ends sessions with these, or refuses new ones for now.
        Some(refusal) if ends_the_session(refusal.code().code()) => LockError::connection(error),
        Some(_) => LockError::backend(error),
        None => LockError::connection(error),
    }
}

/// Classes 08 (connection exception) and 57P (operator intervention), and too many connections.
fn ends_the_session(code: &str) -> bool {
    code.starts_with("08") || code.starts_with("57P") || code == "53300"
}
