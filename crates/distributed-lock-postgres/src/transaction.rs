//! Locks in the caller's own transaction: lock and data are committed together.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use distributed_lock_core::Mode;
use distributed_lock_core::background::spawn_to_the_end;
use distributed_lock_core::error::{LockError, LockResult, NoAnswer};
use distributed_lock_core::timeout::Deadline;
use futures_util::{FutureExt, TryStreamExt};
use tokio_postgres::error::SqlState;
use tokio_postgres::{CancelToken, Client, Error, SimpleQueryStream, Transaction};

use crate::connection::{
    BUFFER, Call, Form, Sessions, Span, cancel, column, end_savepoint, literal, try_in_savepoint,
};
use crate::error::classify;
use crate::key::PostgresAdvisoryLockKey;
use crate::types::PostgresLockProvider;

/// How long a cancelled statement may take to end before it is cancelled once more: a cancellation
/// that comes before its statement has no effect.
const CANCEL_AGAIN: Duration = Duration::from_millis(250);

/// How long what runs behind an abandoned wait lasts.
const BUFFER_LASTS: Duration = Duration::from_secs(10);

/// Locks that end with a transaction of yours.
///
/// A lock that is committed with the data it protects is the only one that cannot be lost in between:
/// when the transaction ends, the server lets go of both, and what was not committed never was.
///
/// ```no_run
/// use distributed_lock_core::Mode;
/// use distributed_lock_postgres::PostgresLockProvider;
/// use std::time::Duration;
///
/// # async fn example(
/// #     provider: PostgresLockProvider,
/// #     client: &mut tokio_postgres::Client,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// let mut transaction = client.transaction().await?;
/// let timeout = Some(Duration::from_secs(5));
/// provider.acquire_in(&mut transaction, "stock", Mode::Exclusive, timeout).await?;
/// transaction.execute("UPDATE stock SET pieces = pieces - 1", &[]).await?;
/// // The lock ends here, too.
/// transaction.commit().await?;
/// # Ok(())
/// # }
/// ```
///
/// They exclude, and are excluded by, all other locks of the name. What is different:
///
/// - The transaction must be on the provider's server and in its database: locks elsewhere are others.
/// - There is nothing to release. The lock ends when the transaction does, or is rolled back to a
///   savepoint of before. Until then the same transaction can take it again.
/// - Two transactions that wait for each other's locks are a [`Deadlock`](LockError::Deadlock), which
///   the server tells one of them after its `deadlock_timeout`, 1 s by default.
/// - The request is made in a savepoint of ours. After an error of the server, and after
///   [`Timeout`](LockError::Timeout), the transaction is as it was before and can be used. Its settings
///   stay as they are, so a `lock_timeout` or `statement_timeout` of its own ends the wait, too, as
///   [`Backend`](LockError::Backend).
/// - Where a transaction sees the data of one moment (`REPEATABLE READ`, `SERIALIZABLE`), that is the
///   moment of its first statement, which may be before the lock was had. Ask for the lock first, and
///   expect serialization failures; or use `READ COMMITTED`, the default.
/// - There is no fencing token.
///
/// # Modes
/// [`Mode::Exclusive`] for the mutex and the write lock, [`Mode::Shared`] for the read lock;
/// [`Mode::Permit`] is [`Unsupported`](LockError::Unsupported).
impl PostgresLockProvider {
    /// Locks a name for the rest of the transaction if it is free; `false` if somebody has it, or waits
    /// for it.
    ///
    /// # Errors
    /// [`LockError::InvalidName`], [`LockError::Unsupported`]; [`LockError::Backend`] if the server
    /// refuses; [`LockError::Connection`] if it does not answer within the operation timeout, and then
    /// the transaction is to be rolled back.
    ///
    /// # Cancel safety
    /// If the future is dropped, the transaction may have the lock, and is to be rolled back.
    pub async fn try_acquire_in(
        &self,
        transaction: &mut Transaction<'_>,
        name: &str,
        mode: Mode,
    ) -> LockResult<bool> {
        let request = Request::new(self.sessions(), transaction, name, mode)?;
        let first = request.begin().await?;
        request.end(first.locked).await?;
        Ok(first.locked)
    }

    /// Locks a name for the rest of the transaction, in the server's order; waits for at most
    /// `timeout`, and for ever without one. Zero is one try.
    ///
    /// # Errors
    /// As [`try_acquire_in`](Self::try_acquire_in); [`LockError::Timeout`], at most one operation
    /// timeout after it is over; [`LockError::Deadlock`].
    ///
    /// # Cancel safety
    /// Not as elsewhere: if the future is dropped, the transaction is to be rolled back, as it is when
    /// it is dropped itself. If it was still waiting, that is cancelled at the server, and the
    /// transaction has failed.
    pub async fn acquire_in(
        &self,
        transaction: &mut Transaction<'_>,
        name: &str,
        mode: Mode,
        timeout: Option<Duration>,
    ) -> LockResult<()> {
        let deadline = Deadline::after(timeout);
        let request = Request::new(self.sessions(), transaction, name, mode)?;
        let refusal = match request.begin().await? {
            First { locked: true, .. } => None,
            _ if deadline.has_passed() => Some(LockError::Timeout(timeout.unwrap_or_default())),
            First { backend, .. } => match request.wait(backend, deadline).await? {
                Ok(()) => None,
                Err(error) => Some(refusal(error, timeout.filter(|_| deadline.has_passed()))),
            },
        };
        request.end(refusal.is_none()).await?;
        refusal.map_or(Ok(()), Err)
    }
}

/// What a wait that failed means; `over` is the caller's time if that is over.
fn refusal(error: Error, over: Option<Duration>) -> LockError {
    match (error.as_db_error(), over) {
        (Some(refused), Some(timeout)) if *refused.code() == SqlState::QUERY_CANCELED => {
            LockError::Timeout(timeout)
        }
        (Some(refused), _) if *refused.code() == SqlState::T_R_DEADLOCK_DETECTED => {
            LockError::Deadlock(refused.detail().unwrap_or(refused.message()).to_owned())
        }
        _ => classify(error),
    }
}

/// One request for a lock.
struct Request<'a> {
    client: &'a Client,
    sessions: &'a Arc<Sessions>,
    key: PostgresAdvisoryLockKey,
    form: Form,
}

/// What the first try brought.
struct First {
    locked: bool,
    /// The process that serves the transaction.
    backend: i32,
}

impl<'a> Request<'a> {
    fn new(
        sessions: &'a Arc<Sessions>,
        transaction: &'a mut Transaction<'_>,
        name: &str,
        mode: Mode,
    ) -> LockResult<Self> {
        let form = match mode {
            Mode::Exclusive => Form::Exclusive,
            Mode::Shared => Form::Shared,
            Mode::Permit { .. } => {
                return Err(LockError::Unsupported(
                    "a permit of a semaphore in the caller's transaction".into(),
                ));
            }
        };
        sessions.check_open()?;
        let key = PostgresAdvisoryLockKey::from_name(name, true)?;
        Ok(Self { client: transaction.client(), sessions, key, form })
    }

    /// Sets the savepoint and tries. Whoever is before us in the queue is not overtaken.
    async fn begin(&self) -> LockResult<First> {
        let words = try_in_savepoint(self.form, self.key);
        match self.within_limit(self.client.simple_query(&words)).await? {
            Ok(answers) => Ok(First {
                locked: column(&answers, 0) == Some("t"),
                backend: column(&answers, 1).and_then(|pid| pid.parse().ok()).unwrap_or_default(),
            }),
            Err(error) => {
                // The first error is the one to report, and the savepoint may not be there.
                let _ = self.end(false).await;
                Err(classify(error))
            }
        }
    }

    /// Takes away the savepoint, and with it what happened since unless that is to be `kept`.
    async fn end(&self, kept: bool) -> LockResult<()> {
        let words = end_savepoint(kept);
        self.within_limit(self.client.batch_execute(&words)).await?.map_err(classify)
    }

    /// Waits in the server's queue; the inner error is how the statement ended.
    async fn wait(&self, backend: i32, deadline: Deadline) -> LockResult<Result<(), Error>> {
        let words = literal(Call::Block, self.form, Span::Transaction, self.key);
        let statement = self.client.simple_query_raw(&words).await.map_err(classify)?;
        let mut waiting = Waiting::new(self, backend, statement);
        tokio::select! {
            biased;
            result = waiting.result() => return Ok(result),
            () = deadline.passed() => {}
        }
        // It may be granted yet, and then it is ours.
        self.within_limit(waiting.cancel()).await?
    }

    async fn within_limit<T>(&self, step: impl Future<Output = T>) -> LockResult<T> {
        let limit = self.sessions.limits().operation_timeout;
        let result = tokio::time::timeout(limit, step).await;
        result.map_err(|_| LockError::connection(NoAnswer(limit)))
    }
}

/// A statement that waits for a lock. If it is dropped before its end, it is cancelled.
struct Waiting<'a> {
    request: &'a Request<'a>,
    backend: i32,
    token: CancelToken,
    /// `None` when it has ended.
    statement: Option<Pin<Box<SimpleQueryStream>>>,
}

impl<'a> Waiting<'a> {
    fn new(request: &'a Request<'a>, backend: i32, statement: SimpleQueryStream) -> Self {
        let token = request.client.cancel_token();
        Self { request, backend, token, statement: Some(Box::pin(statement)) }
    }

    /// Completes when it has ended, once.
    async fn result(&mut self) -> Result<(), Error> {
        let Some(statement) = &mut self.statement else { return Ok(()) };
        let result = ended(statement).await;
        self.statement = None;
        result
    }

    /// Cancels it until it has ended.
    async fn cancel(&mut self) -> LockResult<Result<(), Error>> {
        loop {
            self.request.sessions.target().cancel(&self.token).await?;
            if let Ok(result) = tokio::time::timeout(CANCEL_AGAIN, self.result()).await {
                return Ok(result);
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.statement.is_none() {
            return;
        }
        // Sent with its first poll, unless the session has ended.
        let Some(Ok(buffer)) = self.request.client.simple_query_raw(BUFFER).now_or_never() else {
            return;
        };
        let abandoned = Arc::new(Abandoned {
            sessions: Arc::clone(self.request.sessions),
            backend: self.backend,
            token: self.token.clone(),
            buffer: tokio::sync::Mutex::new(Some(Box::pin(buffer))),
        });
        spawn_to_the_end(self.request.sessions.options().home, move || {
            let abandoned = Arc::clone(&abandoned);
            Box::pin(async move { abandoned.cancel().await })
        });
    }
}

/// A wait that nobody waits for any more.
struct Abandoned {
    sessions: Arc<Sessions>,
    backend: i32,
    token: CancelToken,
    /// What runs behind it; `None` when that has ended.
    buffer: tokio::sync::Mutex<Option<Pin<Box<SimpleQueryStream>>>>,
}

impl Abandoned {
    async fn cancel(&self) {
        let mut buffer = self.buffer.lock().await;
        let cancelling = async {
            while let Some(running) = buffer.as_mut() {
                if let Err(error) = self.signal().await {
                    tracing::debug!(%error, "an abandoned wait for a lock is not cancelled yet");
                }
                // It ends in an error, whatever happens.
                if tokio::time::timeout(CANCEL_AGAIN, ended(running)).await.is_ok() {
                    *buffer = None;
                }
            }
        };
        if tokio::time::timeout(BUFFER_LASTS, cancelling).await.is_err() {
            tracing::warn!("an abandoned wait for a lock could not be cancelled");
        }
    }

    /// By a session of ours, which is one signal. The cancel protocol, where nobody may do that, is two
    /// on servers before 17, and the second can come after the end of what runs behind.
    async fn signal(&self) -> LockResult<()> {
        let words = cancel(self.backend);
        match self.sessions.any().await?.words(&words).await {
            Err(LockError::Backend(_)) => self.sessions.target().cancel(&self.token).await,
            result => result.map(drop),
        }
    }
}

/// Completes when a statement has.
async fn ended(statement: &mut Pin<Box<SimpleQueryStream>>) -> Result<(), Error> {
    while statement.try_next().await?.is_some() {}
    Ok(())
}
