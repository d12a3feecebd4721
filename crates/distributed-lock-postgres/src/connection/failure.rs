//! Why there is no connection.

use std::io;

use distributed_lock_core::error::{LockError, Source};
use tokio_postgres::error::SqlState;

use super::endpoint::Endpoint;
use crate::error::{LockTableFull, OUT_OF_MEMORY, ends_the_session, passes};

/// Source of the error when a server could not be connected to.
#[derive(Debug, thiserror::Error)]
#[error("no connection to the server at {server}")]
pub struct NotConnected {
    server: String,
    #[source]
    source: Source,
}

/// Source of [`NotConnected`]: encryption is required, and the server has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server has no TLS, and sslmode requires it (verify-full unless it is given, except on this \
     machine); in a network that you trust, sslmode=disable connects without encryption"
)]
pub struct NoEncryption;

/// Source of [`NotConnected`]: the server accepts writes, or does not, against `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server is not what target_session_attrs asks for (of several hosts: one to write to)")]
pub struct WrongAttributes;

/// What went wrong with one server.
pub(super) enum Failure {
    /// What the client library says.
    Server(tokio_postgres::Error),
    /// The server answered something that will not do.
    Answer(Source),
    /// There is no answer.
    Client(Source),
    /// The server asks for a password, and there is none to give.
    NoPassword,
}

/// How much a failure says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    Silence,
    /// The server's word, of what passes.
    Passing,
    Refusal,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Client(error.into())
    }
}

impl Failure {
    /// What to report of two: the first refusal, or else the server's word, or else the last.
    pub(super) fn or(before: Option<Self>, later: Self) -> Self {
        match before {
            Some(before) if before.outweighs(&later) => before,
            _ => later,
        }
    }

    /// Whether it is to be reported in place of a later one.
    pub(super) fn outweighs(&self, later: &Self) -> bool {
        self.weight() > later.weight() || self.weight() == Weight::Refusal
    }

    /// Whether the same server may let us in later without any change at our side.
    pub(super) fn passes(&self) -> bool {
        self.weight() < Weight::Refusal
    }

    fn weight(&self) -> Weight {
        match self {
            Self::Client(_) => Weight::Silence,
            Self::Answer(source) if source.is::<WrongAttributes>() => Weight::Passing,
            Self::Answer(_) | Self::NoPassword => Weight::Refusal,
            Self::Server(error) if is_distrust(error) => Weight::Refusal,
            Self::Server(error) => match error.code().map(SqlState::code) {
                None => Weight::Silence,
                Some(code) if is_refusal(code) => Weight::Refusal,
                Some(_) => Weight::Passing,
            },
        }
    }

    /// The error for users. `others_may_pass`: it was one of several servers, and not all have refused
    /// for good.
    pub(super) fn of(self, endpoint: &Endpoint, others_may_pass: bool) -> LockError {
        let server = endpoint.to_string();
        let passes = self.passes() || others_may_pass;
        let (is_answer, source) = match self {
            Self::Answer(source) => (true, source),
            Self::Client(source) => (false, source),
            Self::NoPassword => {
                return LockError::Config(format!(
                    "the server at {server} asks for a password, and the connection string has none"
                ));
            }
            Self::Server(error) if is_distrust(&error) => (true, error.into()),
            Self::Server(error) => {
                let code = error.code().map(SqlState::code);
                let is_answer = code.is_some_and(|code| !ends_the_session(code));
                let is_table_full = code == Some(OUT_OF_MEMORY);
                (is_answer, if is_table_full { LockTableFull(error).into() } else { error.into() })
            }
        };
        let source = NotConnected { server, source };
        match (is_answer, passes) {
            (true, true) => LockError::transient(source),
            (true, false) => LockError::backend(source),
            (false, _) => LockError::connection(source),
        }
    }
}

/// Whether a code means that the same will be refused again.
fn is_refusal(code: &str) -> bool {
    !passes(code) && !ends_the_session(code)
}

/// Whether the server's certificate was refused, or TLS failed otherwise for good.
fn is_distrust(error: &tokio_postgres::Error) -> bool {
    let wrapped = source_of::<io::Error>(error).and_then(io::Error::get_ref);
    wrapped.is_some_and(|cause| cause.is::<rustls::Error>())
}

pub(super) fn source_of<E: std::error::Error + 'static>(
    error: &tokio_postgres::Error,
) -> Option<&E> {
    std::error::Error::source(error).and_then(|source| source.downcast_ref())
}
