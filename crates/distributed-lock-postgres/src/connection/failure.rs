//! Why there is no connection.

use std::io;

use distributed_lock_core::error::{LockError, Source};

use super::endpoint::Endpoint;
use crate::error::classify;

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
#[error("the server has no TLS, and sslmode requires it")]
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
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Client(error.into())
    }
}

impl Failure {
    /// The error for users.
    pub(super) fn of(self, endpoint: &Endpoint) -> LockError {
        let server = endpoint.to_string();
        let (is_answer, source) = match self {
            Self::Answer(source) => (true, source),
            Self::Client(source) => (false, source),
            Self::Server(error) if is_distrust(&error) => (true, error.into()),
            Self::Server(error) => match classify(error) {
                LockError::Backend(source) => (true, source),
                LockError::Connection(source) => (false, source),
                other => return other,
            },
        };
        let source = NotConnected { server, source };
        if is_answer { LockError::backend(source) } else { LockError::connection(source) }
    }
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
