//! Fencing tokens.

use distributed_lock_core::FencingToken;
use distributed_lock_core::error::{LockError, LockResult};

use crate::connection::{Session, Span, TRANSACTION_ID, column, next_of};

/// Where tokens come from.
#[derive(Debug, Clone)]
pub(crate) enum Tokens {
    /// Ids of transactions: they increase while the server runs, and those of the last moments before
    /// a crash may come again.
    TransactionIds,
    /// A sequence of the user's, by its name.
    Sequence(String),
}

impl Tokens {
    /// Draws a token on the session of a lock: an answer says that the session lives, and so that the
    /// lock is held.
    pub(crate) async fn draw(&self, session: &Session) -> LockResult<FencingToken> {
        session.check_held()?;
        let words = match (self, session.span()) {
            (Self::Sequence(name), _) => next_of(name),
            (Self::TransactionIds, Span::Session) => TRANSACTION_ID.into(),
            (Self::TransactionIds, Span::Transaction) => {
                return Err(LockError::Unsupported(
                    "fencing tokens need `fencing_sequence` when `use_transaction` is on: the \
                     transaction's id may be older than the lock"
                        .into(),
                ));
            }
        };
        let answers = match session.words(&words).await {
            Ok(answers) => answers,
            Err(error) => {
                session.check_held()?;
                return Err(error);
            }
        };
        let token = column(&answers, 0).and_then(|token| token.parse().ok());
        token.map(FencingToken).ok_or_else(|| LockError::backend(NotANumber))
    }
}

/// Source of [`LockError::Backend`]: a token was not a number.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the server's answer is not a positive number")]
struct NotANumber;
