//! What can go wrong, in kinds that a caller would act on differently.

use std::error::Error;
use std::time::Duration;

/// Result of every lock operation.
pub type LockResult<T> = Result<T, LockError>;

/// A typed source of an error; downcast it to see what the client library said.
pub type Source = Box<dyn Error + Send + Sync + 'static>;

/// Errors that can occur during lock operations.
///
/// `Display` describes this layer only; walk [`source()`](Error::source) for the cause. Neither ever
/// holds a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The lock was not free within the time that the caller gave; that time is inside.
    #[error("the lock was not free within {0:?}")]
    Timeout(Duration),

    /// The provider was shut down, before or during the call.
    #[error("the provider was shut down")]
    Cancelled,

    /// The server ended one of several transactions that waited for each other.
    ///
    /// Only locks taken inside the caller's own database transaction can meet this.
    #[error("the server reported a deadlock: {0}")]
    Deadlock(String),

    /// The lock service could not be reached or did not answer in time: whether the request took
    /// effect is unknown to the caller, and whatever it left is being undone.
    #[error("the lock service did not answer")]
    Connection(#[source] Source),

    /// The lock ended before its holder released it; the reason is inside.
    #[error("the lock was lost: {0}")]
    LockLost(String),

    /// No lock can have this name; the reason is inside.
    #[error("invalid lock name: {0}")]
    InvalidName(String),

    /// The lock service answered, and refused. The source is [`Transient`] if the refusal passes by
    /// itself.
    #[error("the lock service refused the request")]
    Backend(#[source] Source),

    /// An option, URL or argument cannot be used; the text says which and what would work.
    #[error("invalid configuration: {0}")]
    Config(String),

    /// This backend or platform cannot do what was asked.
    #[error("not supported: {0}")]
    Unsupported(String),
}

impl LockError {
    /// Wraps a client's error as [`Connection`](Self::Connection).
    pub fn connection(source: impl Into<Source>) -> Self {
        Self::Connection(source.into())
    }

    /// Wraps a client's error as [`Backend`](Self::Backend).
    pub fn backend(source: impl Into<Source>) -> Self {
        Self::Backend(source.into())
    }

    /// Wraps a refusal that passes by itself as [`Backend`](Self::Backend): a server that loads, is
    /// busy, fails over, is read-only or a standby for the moment, or is out of memory, connections
    /// or file handles.
    ///
    /// The engine lets such a refusal end no wait and no hold. Backends decide by error codes, never
    /// by message text.
    pub fn transient(source: impl Into<Source>) -> Self {
        Self::backend(Transient(source.into()))
    }

    /// Whether the same acquire can succeed later without anybody changing anything at the caller's
    /// side.
    ///
    /// True for exactly [`Connection`](Self::Connection) and for a [`Backend`](Self::Backend) whose
    /// source is [`Transient`]. False for [`Timeout`](Self::Timeout): the caller's own time is up. False
    /// for [`LockLost`](Self::LockLost): the lock can be acquired again, but the work that it protected
    /// may be half done, and only the caller knows.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connection(_) => true,
            Self::Backend(source) => source.is::<Transient>(),
            _ => false,
        }
    }

    /// The whole chain in one line, for a reason that outlives the error.
    pub(crate) fn chain(&self) -> String {
        let mut words = Vec::new();
        let mut source = self.source();
        while let Some(error) = source {
            if !error.is::<Transient>() {
                words.push(error.to_string());
            }
            source = error.source();
        }
        if words.is_empty() { self.to_string() } else { words.join(": ") }
    }

    /// The first error of this type in the chain of sources.
    ///
    /// ```
    /// use distributed_lock_core::error::{LockError, NoAnswer};
    /// use std::time::Duration;
    ///
    /// let error = LockError::transient(NoAnswer(Duration::from_secs(2)));
    /// assert_eq!(error.find_source(), Some(&NoAnswer(Duration::from_secs(2))));
    /// ```
    #[must_use]
    pub fn find_source<E: Error + 'static>(&self) -> Option<&E> {
        let mut source = self.source();
        while let Some(error) = source {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            source = error.source();
        }
        None
    }
}

/// Source of [`LockError::Backend`] for a refusal that passes by itself.
///
/// Its own source is what the client library said, or this library in its place.
#[derive(Debug, thiserror::Error)]
#[error("the refusal passes by itself; trying again later can succeed")]
pub struct Transient(#[source] Source);

/// Source of [`LockError::Connection`] when the service was silent for one operation timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no answer within {0:?}")]
pub struct NoAnswer(pub Duration);

/// Source of [`LockError::Connection`] when the task that released a lock did not run for so long that the
/// release is finished in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its task did not run for too long; the release is finished in the background")]
pub struct AbandonedRelease;

/// Source of [`LockError::Connection`] when the grant arrived after its lease had already run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the grant took longer than its lease lasts; it was given back")]
pub struct LateGrant;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_can_be_downcast() {
        let error = LockError::connection(NoAnswer(Duration::from_secs(2)));
        let source = error.source().and_then(|source| source.downcast_ref::<NoAnswer>());
        assert_eq!(source, Some(&NoAnswer(Duration::from_secs(2))));
    }

    #[test]
    fn only_what_passes_by_itself_is_retryable() {
        assert!(LockError::connection(LateGrant).is_retryable());
        assert!(LockError::transient("LOADING").is_retryable());
        assert!(!LockError::backend("WRONGTYPE").is_retryable());
        assert!(!LockError::Timeout(Duration::ZERO).is_retryable());
        assert!(!LockError::InvalidName("x".into()).is_retryable());
        assert!(!LockError::LockLost("x".into()).is_retryable());
    }
}
