//! Locks in the caller's own transaction: lock and data are committed together.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use distributed_lock_core::Mode;
use distributed_lock_core::background::spawn_to_the_end;
use distributed_lock_core::error::{LockError, LockResult, NoAnswer};
use futures_util::{FutureExt, TryStreamExt};
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::{
    CancelToken, Client, Error, SimpleQueryMessage, SimpleQueryStream, Transaction,
};

use crate::connection::{
    Call, FAIL, Form, SLEEP, Sessions, Span, cancel_wait_in, column, end_savepoint, literal,
    try_in_savepoint, within,
};
use crate::error::classify;
use crate::key::PostgresAdvisoryLockKey;
use crate::types::PostgresLockProvider;

/// How long a cancelled statement may take to end before it is cancelled once more: a cancellation
/// that comes before its statement has no effect.
const CANCEL_AGAIN: Duration = Duration::from_millis(250);

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
    /// the transaction has failed.
    ///
    /// # Cancel safety
    /// If the future is dropped before it has ended, also before its first poll, the transaction has
    /// failed: it can only be rolled back, or rolled back to a savepoint of before. So nothing is
    /// committed without the lock.
    pub fn try_acquire_in<'a>(
        &'a self,
        transaction: &'a mut Transaction<'_>,
        name: &'a str,
        mode: Mode,
    ) -> impl Future<Output = LockResult<bool>> + Send {
        let request = Request::new(self.sessions(), transaction, name, mode);
        async move {
            let mut request = request?;
            let first = request.begin().await?;
            request.end(first.locked).await?;
            Ok(first.locked)
        }
    }

    /// Locks a name for the rest of the transaction, in the server's order; waits for at most
    /// `timeout`, and for ever without one. Zero is one try.
    ///
    /// # Errors
    /// As [`try_acquire_in`](Self::try_acquire_in); [`LockError::Timeout`], at most one operation
    /// timeout after it is over; [`LockError::Deadlock`].
    ///
    /// # Cancel safety
    /// As that of [`try_acquire_in`](Self::try_acquire_in). If it was still waiting, that is cancelled at
    /// the server.
    pub fn acquire_in<'a>(
        &'a self,
        transaction: &'a mut Transaction<'_>,
        name: &'a str,
        mode: Mode,
        timeout: Option<Duration>,
    ) -> impl Future<Output = LockResult<()>> + Send {
        let began = Instant::now();
        let left = move || timeout.map_or(Duration::MAX, |t| t.saturating_sub(began.elapsed()));
        let request = Request::new(self.sessions(), transaction, name, mode);
        async move {
            let mut request = request?;
            let refusal = match request.begin().await? {
                First { locked: true, .. } => None,
                _ if left().is_zero() => Some(LockError::Timeout(timeout.unwrap_or_default())),
                First { transaction, .. } => match request.wait(transaction, left()).await? {
                    Ok(()) => None,
                    Err(error) => Some(refusal(error, timeout.filter(|_| left().is_zero()))),
                },
            };
            request.end(refusal.is_none()).await?;
            refusal.map_or(Ok(()), Err)
        }
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

impl BackendTransaction {
    /// Interrupts the wait, or what runs behind it, if the server sees one of them, by a session of
    /// ours. The cancel protocol, for transactions that this session may not see or interrupt, hits
    /// whatever runs when it arrives.
    async fn interrupt(&self, sessions: &Arc<Sessions>, token: &CancelToken) -> LockResult<()> {
        let words = cancel_wait_in(self.backend, &self.begun);
        let seen = match sessions.beside(None).await {
            Ok(session) => session.words(&words).await,
            Err(error) => Err(error),
        };
        match seen {
            Ok(answers) if column(&answers, 0) == Some("t") => Ok(()),
            Ok(_) | Err(_) => sessions.target().cancel(token).await,
        }
    }
}

/// One request for a lock. Dropped before it is concluded, it has the transaction fail: nobody knows
/// whether that has the lock.
struct Request<'a> {
    client: &'a Client,
    sessions: &'a Arc<Sessions>,
    key: PostgresAdvisoryLockKey,
    form: Form,
    stage: Stage,
}

enum Stage {
    /// What was sent, if anything, does not block.
    Asks,
    /// A statement that may block for ever was sent there.
    Waits(BackendTransaction),
    /// The transaction has the lock, or is as it was before.
    Concluded,
}

/// What the first try brought.
struct First {
    locked: bool,
    transaction: BackendTransaction,
}

/// A transaction as other sessions see it.
#[derive(Clone)]
struct BackendTransaction {
    /// The process that serves it.
    backend: i32,
    /// When it began, as the server writes that.
    begun: String,
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
        Ok(Self { client: transaction.client(), sessions, key, form, stage: Stage::Asks })
    }

    /// Sets the savepoint and tries. Requests that are earlier in the queue are not overtaken.
    async fn begin(&mut self) -> LockResult<First> {
        let words = try_in_savepoint(self.form, self.key);
        let mut is_set = false;
        match self.within_limit(answers(self.client, &words, &mut is_set)).await? {
            Ok(answers) => Ok(First {
                locked: column(&answers, 0) == Some("t"),
                transaction: BackendTransaction {
                    backend: column(&answers, 1).and_then(|pid| pid.parse().ok()).unwrap_or(0),
                    begun: column(&answers, 2).unwrap_or_default().to_owned(),
                },
            }),
            Err(error) => {
                // If the savepoint was not set, one of that name is an earlier request's, and rolling
                // back to it would revive a transaction that has failed.
                if is_set {
                    self.end(false).await?;
                }
                Err(classify(error))
            }
        }
    }

    /// Takes away the savepoint, and with it what happened since unless that is to be `kept`.
    async fn end(&mut self, kept: bool) -> LockResult<()> {
        let words = end_savepoint(kept);
        self.within_limit(self.client.batch_execute(&words)).await?.map_err(classify)?;
        self.stage = Stage::Concluded;
        Ok(())
    }

    /// Waits in the server's queue; the inner error is how the statement ended.
    async fn wait(
        &mut self,
        transaction: BackendTransaction,
        limit: Duration,
    ) -> LockResult<Result<(), Error>> {
        let words = literal(Call::Block, self.form, Span::Transaction, self.key);
        self.stage = Stage::Waits(transaction.clone());
        let statement = self.client.simple_query_raw(&words).await.map_err(classify)?;
        let mut statement = Box::pin(statement);
        let result = match within(limit, ended(&mut statement)).await {
            Some(result) => result,
            // It may be granted yet, and then it is ours.
            None => self.within_limit(self.cancel(&transaction, &mut statement)).await??,
        };
        self.stage = Stage::Asks;
        Ok(result)
    }

    /// Cancels the statement until it has ended.
    async fn cancel(
        &self,
        transaction: &BackendTransaction,
        statement: &mut Pin<Box<SimpleQueryStream>>,
    ) -> LockResult<Result<(), Error>> {
        let token = self.client.cancel_token();
        loop {
            transaction.interrupt(self.sessions, &token).await?;
            if let Some(result) = within(CANCEL_AGAIN, ended(statement)).await {
                return Ok(result);
            }
        }
    }

    async fn within_limit<T>(&self, step: impl Future<Output = T>) -> LockResult<T> {
        let limit = self.sessions.limits().operation_timeout;
        within(limit, step).await.ok_or_else(|| LockError::connection(NoAnswer(limit)))
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        match &self.stage {
            Stage::Concluded => {}
            // Sent with its first poll, unless the session has ended; it runs before all that the caller
            // sends from now on.
            Stage::Asks => drop(self.client.simple_query_raw(FAIL).now_or_never()),
            Stage::Waits(transaction) => {
                let buffer = format!("{SLEEP}; {FAIL}");
                let sent = self.client.simple_query_raw(&buffer).now_or_never();
                if let Some(Ok(buffer)) = sent {
                    let token = self.client.cancel_token();
                    Abandoned::cancel(self.sessions, transaction.clone(), token, buffer);
                }
            }
        }
    }
}

/// The answers to some statements; `is_begun` once the first has succeeded.
async fn answers(
    client: &Client,
    words: &str,
    is_begun: &mut bool,
) -> Result<Vec<SimpleQueryMessage>, Error> {
    let mut stream = Box::pin(client.simple_query_raw(words).await?);
    let mut answers = Vec::new();
    while let Some(answer) = stream.try_next().await? {
        *is_begun = true;
        answers.push(answer);
    }
    Ok(answers)
}

/// Completes when a statement has.
async fn ended(statement: &mut Pin<Box<SimpleQueryStream>>) -> Result<(), Error> {
    while statement.try_next().await?.is_some() {}
    Ok(())
}

/// A wait that was dropped, and is to be cancelled.
struct Abandoned {
    sessions: Arc<Sessions>,
    transaction: BackendTransaction,
    token: CancelToken,
    /// What runs behind it; `None` when that has ended.
    buffer: tokio::sync::Mutex<Option<Pin<Box<SimpleQueryStream>>>>,
}

impl Abandoned {
    /// Cancels it in the background.
    fn cancel(
        sessions: &Arc<Sessions>,
        transaction: BackendTransaction,
        token: CancelToken,
        buffer: SimpleQueryStream,
    ) {
        let abandoned = Arc::new(Self {
            sessions: Arc::clone(sessions),
            transaction,
            token,
            buffer: tokio::sync::Mutex::new(Some(Box::pin(buffer))),
        });
        spawn_to_the_end(sessions.options().home, move || {
            let abandoned = Arc::clone(&abandoned);
            Box::pin(async move { abandoned.run().await })
        });
    }

    async fn run(&self) {
        let mut buffer = self.buffer.lock().await;
        while let Some(running) = buffer.as_mut() {
            if let Err(error) = self.transaction.interrupt(&self.sessions, &self.token).await {
                tracing::debug!(%error, "an abandoned wait for a lock is not cancelled yet");
            }
            // It ends in an error, whatever happens.
            if within(CANCEL_AGAIN, ended(running)).await.is_some() {
                *buffer = None;
            }
        }
    }
}
