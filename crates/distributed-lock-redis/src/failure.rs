//! What an error of the client means for a lock.

use distributed_lock_core::error::LockError;
use redis::RedisError;

/// The server was not reached or did not answer, or it did and refused.
pub(crate) fn lock_error(error: RedisError) -> LockError {
    if says_nothing(&error) { LockError::connection(error) } else { LockError::backend(error) }
}

/// Nobody can say whether the request took effect.
fn says_nothing(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_connection_dropped()
        || error.is_timeout()
        || error.kind() == redis::ErrorKind::Parse
}

/// The connection is of no more use.
pub(crate) fn ends_link(error: &RedisError) -> bool {
    says_nothing(error) || error.is_unrecoverable_error()
}

/// The server has forgotten a script, by restart or `SCRIPT FLUSH`.
pub(crate) fn wants_script(error: &RedisError) -> bool {
    error.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::NoScript)
}

/// The user may not do this.
pub(crate) fn forbids(error: &RedisError) -> bool {
    error.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::NoPerm)
}

/// A refusal that a script may meet half way: of a command that the user may not use, for which some
/// versions have no code of its own.
pub(crate) fn may_be_partial(error: &LockError) -> bool {
    let LockError::Backend(source) = error else { return true };
    let code = source.downcast_ref::<RedisError>().and_then(RedisError::code);
    matches!(code, Some("NOPERM" | "ERR"))
}
