//! A session with the server: what it is asked, and in which words.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use distributed_lock_core::background::{BoxFuture, Home, Resident};
use distributed_lock_core::driver::LossReporter;
use distributed_lock_core::error::{LockError, LockResult};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, SimpleQueryMessage, Statement};

use super::link::Link;
use super::sql::{self, Call, Form, Other, Span};
use super::target::Target;
use crate::error::{EndedSession, Standby, classify};
use crate::key::PostgresAdvisoryLockKey;

/// One session. It either holds, and then runs only statements that cannot block, or it waits with
/// one statement that does. Requests are answered in the order in which they were made.
pub(crate) struct Session {
    pub(super) link: Arc<Link>,
    driver: Resident,
    pub(super) span: Span,
    id: u64,
    /// The backend's process id. With [`Span::Transaction`], that of the current transaction.
    pub(super) backend: AtomicI32,
    /// The server can look after the client of a blocked statement.
    pub(super) checks_client: AtomicBool,
    /// A statement is under way that may block. Locked while it is cancelled.
    pub(super) blocks: tokio::sync::Mutex<bool>,
    /// The number of the last such statement.
    pub(super) statement: AtomicU64,
    calls: [OnceLock<Statement>; Call::STATEMENTS],
    others: [OnceLock<Statement>; Other::COUNT],
}

/// What a session is opened with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionOptions {
    pub(crate) span: Span,
    pub(crate) keepalive: Duration,
    pub(crate) home: Home,
}

impl Session {
    /// Connects and sets what the session needs. `beside` runs with the connection while it lasts.
    pub(crate) async fn open(
        target: &Target,
        options: SessionOptions,
        beside: impl Fn(u64) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> LockResult<Arc<Self>> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let link = Arc::new(Link::new(target.connect().await?, options.keepalive));
        let driven = Arc::clone(&link);
        let driver = Resident::new(options.home, move || {
            let (link, beside) = (Arc::clone(&driven), beside(id));
            Box::pin(async move {
                tokio::select! {
                    () = link.drive() => {}
                    () = beside => {}
                }
            })
        });
        let session = Self {
            link,
            driver,
            span: options.span,
            id,
            backend: AtomicI32::new(0),
            checks_client: AtomicBool::new(false),
            blocks: tokio::sync::Mutex::new(false),
            statement: AtomicU64::new(0),
            calls: Default::default(),
            others: Default::default(),
        };
        session.set_up(options.keepalive).await?;
        Ok(Arc::new(session))
    }

    async fn set_up(&self, keepalive: Duration) -> LockResult<()> {
        let check_client = match self.span {
            Span::Session => {
                self.words(&sql::session_settings(keepalive)).await?;
                sql::check_client()
            }
            Span::Transaction => sql::can_check_client(),
        };
        match self.words(&check_client).await {
            Ok(_) => self.checks_client.store(true, Ordering::Relaxed),
            Err(LockError::Backend(_)) if self.span == Span::Session => {}
            Err(LockError::Backend(_)) => self.roll_back().await?,
            Err(error) => return Err(error),
        }
        let facts = self.words(sql::FACTS).await?;
        if column(&facts, 1) == Some("t") {
            return Err(LockError::transient(Standby));
        }
        self.remember_backend(&facts);
        Ok(())
    }

    /// Distinguishes it from all others of this process.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn span(&self) -> Span {
        self.span
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.link.is_alive()
    }

    /// Completes when it ends.
    pub(crate) async fn ended(&self) {
        self.link.until_the_end().await;
    }

    /// Ends it. What it holds is lost, and the server lets go of it.
    pub(crate) fn close(&self, reason: &str) {
        self.link.end(reason);
    }

    /// The error of whoever holds something by a session that has ended.
    pub(crate) fn check_held(&self) -> LockResult<()> {
        match self.link.ended() {
            None => Ok(()),
            Some(reason) => {
                Err(LockError::LockLost(format!("the session with the server ended: {reason}")))
            }
        }
    }

    /// Has a holder told when the session ends.
    pub(crate) fn register(self: &Arc<Self>, holder: &LossReporter) -> LockResult<Registration> {
        let id = self.link.tell(holder).ok_or_else(|| LockError::connection(EndedSession))?;
        Ok(Registration { session: Arc::clone(self), id })
    }

    /// Runs statements in the simple protocol, which every pooler understands.
    pub(crate) async fn words(&self, words: &str) -> LockResult<Vec<SimpleQueryMessage>> {
        self.answer(self.client().simple_query(words)).await
    }

    /// Runs statements in a transaction that stays open; rolled back if one of them fails.
    pub(super) async fn in_new_transaction(
        &self,
        words: &str,
    ) -> LockResult<Vec<SimpleQueryMessage>> {
        let begin = sql::begin(self.checks_client.load(Ordering::Relaxed));
        match self.words(&format!("{begin}; {words}")).await {
            Err(LockError::Backend(refusal)) => {
                self.roll_back().await?;
                Err(LockError::Backend(refusal))
            }
            Ok(answers) => {
                // The settings come first, the statement's own answer last.
                let last = answers.iter().rposition(is_end_of_rows).unwrap_or(0);
                let first = answers[..last].iter().rposition(is_end_of_rows).unwrap_or(0);
                Ok(answers.into_iter().skip(first).collect())
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn roll_back(&self) -> LockResult<()> {
        let result = self.words("ROLLBACK").await;
        if result.is_err() {
            // Whoever uses it next would be in the same transaction.
            self.close("its transaction could not be rolled back");
        }
        result.map(drop)
    }

    pub(super) async fn call(
        &self,
        call: Call,
        form: Form,
        key: PostgresAdvisoryLockKey,
    ) -> LockResult<Option<bool>> {
        let statement = self.prepare(call, form, key).await?;
        let row = match key {
            PostgresAdvisoryLockKey::Single(key) => self.row(statement, &[&key]).await,
            PostgresAdvisoryLockKey::Pair(high, low) => self.row(statement, &[&high, &low]).await,
        }?;
        // A blocking lock answers with nothing.
        if call == Call::Block {
            return Ok(None);
        }
        row.try_get(0).map_err(classify)
    }

    async fn row(
        &self,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> LockResult<tokio_postgres::Row> {
        self.answer(self.client().query_one(statement, parameters)).await
    }

    pub(super) async fn prepare(
        &self,
        call: Call,
        form: Form,
        key: PostgresAdvisoryLockKey,
    ) -> LockResult<&Statement> {
        let cell = &self.calls[call.index(form, key)];
        match cell.get() {
            Some(statement) => Ok(statement),
            None => self.prepared(cell, &sql::statement(call, form, key)).await,
        }
    }

    pub(super) async fn other(&self, statement: Other) -> LockResult<&Statement> {
        let cell = &self.others[statement as usize];
        match cell.get() {
            Some(statement) => Ok(statement),
            None => self.prepared(cell, statement.words()).await,
        }
    }

    /// Two tasks may prepare the same statement at the same time: nobody waits for a task that may
    /// not run.
    async fn prepared<'a>(
        &self,
        cell: &'a OnceLock<Statement>,
        words: &str,
    ) -> LockResult<&'a Statement> {
        let statement = self.answer(self.client().prepare(words)).await?;
        Ok(cell.get_or_init(|| statement))
    }

    /// Waits for an answer. Wherever that is waited for, the connection is driven: the runtime that
    /// sent the request may be blocked.
    pub(super) async fn answer<T>(
        &self,
        request: impl Future<Output = Result<T, Error>>,
    ) -> LockResult<T> {
        let mut request = pin!(request);
        poll_fn(|context| {
            self.driver.ensure();
            request.as_mut().poll(context).map_err(classify)
        })
        .await
    }

    /// The client, its connection driven from here on.
    pub(crate) fn client(&self) -> &Client {
        self.driver.ensure();
        &self.link.client
    }

    pub(super) fn remember_backend(&self, answers: &[SimpleQueryMessage]) {
        if let Some(backend) = column(answers, 0).and_then(|pid| pid.parse().ok()) {
            self.backend.store(backend, Ordering::Relaxed);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Whoever drives it may not be driven itself.
        self.link.end("it is no longer used");
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A holder that is told when its session ends, until this is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    session: Arc<Session>,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.session.link.forget(self.id);
    }
}

fn is_end_of_rows(message: &SimpleQueryMessage) -> bool {
    matches!(message, SimpleQueryMessage::CommandComplete(_))
}

/// A column of the first row, as text.
pub(crate) fn column(answers: &[SimpleQueryMessage], index: usize) -> Option<&str> {
    answers.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(index),
        _ => None,
    })
}
