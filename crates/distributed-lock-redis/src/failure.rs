//! What an error of the client means for a lock.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use distributed_lock_core::error::LockError;
use redis::{ErrorKind, RedisError, ServerErrorKind};

/// What a Redis server answered, or what became of the connection to it.
///
/// The source of every [`LockError::Connection`] and [`LockError::Backend`] of a request; see
/// [`find_source`](LockError::find_source). Its text names the server and has the client's, so it has no
/// source of its own.
#[derive(Clone)]
pub struct ServerError {
    server: Arc<str>,
    error: RedisError,
    remedy: Option<&'static str>,
}

impl ServerError {
    pub(crate) fn new(server: &Arc<str>, error: RedisError) -> Self {
        Self { server: Arc::clone(server), error, remedy: None }
    }

    /// With what the user can do about it.
    pub(crate) fn with_remedy(self, remedy: &'static str) -> Self {
        Self { remedy: Some(remedy), ..self }
    }

    /// Host and port of the server, or the path of its socket.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// What the client library reported.
    #[must_use]
    pub fn client_error(&self) -> &RedisError {
        &self.error
    }

    /// A connection was refused in a way that the client library reports badly: it was closed, or HELLO
    /// was answered before the login.
    pub(crate) fn may_have_a_better_reason(&self) -> bool {
        self.was_closed() || self.code() == Some("NOAUTH")
    }

    /// There was a connection, and it ended.
    pub(crate) fn was_closed(&self) -> bool {
        let is_closed = says_nothing(&self.error) && !self.error.is_connection_refusal();
        is_closed && !self.error.is_timeout()
    }

    /// The server does not speak RESP3.
    pub(crate) fn lacks_resp3(&self) -> bool {
        self.error.kind() == ErrorKind::RESP3NotSupported
    }

    /// The server runs no scripts at all.
    pub(crate) fn knows_no_scripts(&self) -> bool {
        let is_unknown = |text: &str| text.to_ascii_lowercase().starts_with("unknown command");
        self.code() == Some("ERR") && self.error.detail().is_some_and(is_unknown)
    }

    /// The server's error code; the one inside, where a script of a server before version 7 has failed.
    pub(crate) fn code(&self) -> Option<&str> {
        let code = self.error.code()?;
        let inner = self.error.detail().filter(|_| code == "ERR").and_then(code_in_script);
        Some(inner.unwrap_or(code))
    }
}

/// "Error running script (call to f_1f2e): @user_script:7: @user_script: 7: -OOM command not allowed"
fn code_in_script(detail: &str) -> Option<&str> {
    let (_, error) = detail.strip_prefix("Error running script")?.split_once(": -")?;
    let code = error.split([' ', '\r']).next()?;
    (!code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase())).then_some(code)
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.server)?;
        match (self.error.code(), self.error.detail()) {
            (Some(code), Some(detail)) => write!(f, "{code} {detail}")?,
            (Some(code), None) => f.write_str(code)?,
            _ => self.error.fmt(f)?,
        }
        self.remedy.map_or(Ok(()), |remedy| write!(f, ". Remedy: {remedy}"))
    }
}

impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerError({self})")
    }
}

impl Error for ServerError {}

/// The codes of refusals that pass by themselves: a server that loads its data, runs a long script, is
/// out of memory, cannot save, is a replica for the moment or has lost its replicas, or a cluster that
/// fails over.
const TRANSIENT: [&str; 11] = [
    "LOADING",
    "BUSY",
    "OOM",
    "READONLY",
    "MASTERDOWN",
    "MISCONF",
    "NOREPLICAS",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "INPROG",
    "NOGOODSLAVE",
];

/// What a server says that has no room for one more connection. It has no code of its own.
const TOO_MANY_CLIENTS: &str = "max number of clients";

/// The server was not reached or did not answer, or it did and refused, for the moment or for good.
pub(crate) fn lock_error(error: ServerError) -> LockError {
    if says_nothing(&error.error) {
        LockError::connection(error)
    } else if is_transient(&error) {
        LockError::transient(error)
    } else {
        LockError::backend(error)
    }
}

fn is_transient(error: &ServerError) -> bool {
    let too_many = || error.error.detail().is_some_and(|text| text.starts_with(TOO_MANY_CLIENTS));
    match error.code() {
        Some("ERR") => too_many(),
        Some(code) => TRANSIENT.contains(&code),
        None => false,
    }
}

/// It is unknown whether the request took effect.
fn says_nothing(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_connection_dropped()
        || error.is_timeout()
        || error.kind() == ErrorKind::Parse
}

/// The server is a replica, and may have been a primary before.
pub(crate) fn is_demoted(error: &ServerError) -> bool {
    matches!(error.code(), Some("READONLY" | "MASTERDOWN"))
}

/// The connection was closed or is out of step: a request may be made again on another.
pub(crate) fn cuts_link(error: &ServerError) -> bool {
    says_nothing(&error.error) || error.error.is_unrecoverable_error()
}

/// The server has forgotten a script, by restart or `SCRIPT FLUSH`.
pub(crate) fn wants_script(error: &ServerError) -> bool {
    error.error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// The user may not do this.
pub(crate) fn forbids(error: &ServerError) -> bool {
    error.code() == Some("NOPERM")
}

/// A key is of another type than its readers expect.
pub(crate) fn is_wrong_type(error: &LockError) -> bool {
    error.find_source::<ServerError>().and_then(ServerError::code) == Some("WRONGTYPE")
}

/// A refusal that a script may meet half way: of a command that the user may not use, for which some
/// versions have no code of its own.
pub(crate) fn may_be_partial(error: &LockError) -> bool {
    if matches!(error, LockError::Connection(_)) {
        return true;
    }
    let code = error.find_source::<ServerError>().and_then(ServerError::code);
    matches!(code, Some("NOPERM" | "ERR" | "WRONGTYPE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(words: &str) -> LockError {
        let value = redis::parse_redis_value(format!("-{words}\r\n").as_bytes()).unwrap();
        lock_error(ServerError::new(&"host:6379".into(), value.extract_error().unwrap_err()))
    }

    #[test]
    fn row_54_refusals_that_pass_are_retryable_and_others_are_not() {
        // As the servers write them. Each code of the list has one.
        let words = [
            "LOADING Redis is loading the dataset in memory",
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "READONLY You can't write against a read only replica.",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist.",
            "NOREPLICAS Not enough good replicas to write.",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "CLUSTERDOWN The cluster is down",
            "INPROG Failover already in progress",
            "NOGOODSLAVE No suitable replica to promote",
        ];
        for words in words {
            let error = error(words);
            let is_transient = matches!(error, LockError::Backend(_)) && error.is_retryable();
            assert!(is_transient, "{words}");
        }
        for code in TRANSIENT {
            assert!(words.iter().any(|words| words.starts_with(&format!("{code} "))), "{code}");
        }
        assert!(error("ERR max number of clients reached").is_retryable());
        assert!(error("ERR max number of clients + cluster connections reached").is_retryable());
        let script = "ERR Error running script (call to f_12ab): @user_script:7: @user_script: 7: ";
        assert!(error(&format!("{script}-OOM command not allowed")).is_retryable());
        for words in ["NOPERM no", "NOAUTH Authentication required.", "WRONGTYPE no", "ERR syntax"]
        {
            let error = error(words);
            assert!(matches!(error, LockError::Backend(_)) && !error.is_retryable(), "{words}");
        }
        assert!(!error(&format!("{script}-NOPERM no")).is_retryable());
    }

    #[test]
    fn an_error_names_the_server_and_says_things_once() {
        let error = error("OOM command not allowed");
        let source = error.find_source::<ServerError>().unwrap();
        assert_eq!(source.to_string(), "host:6379: OOM command not allowed");
        assert!(source.source().is_none());
        assert_eq!(source.client_error().code(), Some("OOM"));
    }
}
