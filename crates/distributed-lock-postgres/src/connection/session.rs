//! A session with the server: what it is asked, and in which words.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use distributed_lock_core::background::{BoxFuture, Home, Resident};
use distributed_lock_core::driver::LossReporter;
use distributed_lock_core::error::{LockError, LockResult};
use tokio::sync::OnceCell;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, SimpleQueryMessage, Statement};

use super::link::Link;
use super::sql::{self, Call, Form, Other, Span};
use super::target::Target;
use crate::error::{EndedSession, Standby, classify};
use crate::key::PostgresAdvisoryLockKey;

/// One session. It either holds, and then runs only statements that cannot block, or it waits with
/// one statement that does. Requests are answered in the order in which they were made.
pub(crate) struct Session {
    link: Arc<Link>,
    driver: Resident,
    span: Span,
    id: u64,
    /// The backend's process id. With [`Span::Transaction`], that of the current transaction.
    backend: AtomicI32,
    /// The server can look after the client of a blocked statement.
    checks_client: AtomicBool,
    calls: [OnceCell<Statement>; Call::STATEMENTS],
    others: [OnceCell<Statement>; Other::COUNT],
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
        let facts = self.words("SELECT pg_backend_pid(), pg_is_in_recovery()").await?;
        if column(&facts, 1) == Some("t") {
            return Err(LockError::backend(Standby));
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

    /// Locks a key if it is free.
    pub(crate) async fn try_lock(
        &self,
        key: PostgresAdvisoryLockKey,
        form: Form,
    ) -> LockResult<bool> {
        if self.span == Span::Session {
            self.prepare_unlock(form, key).await?;
            return self.call(Call::Try, form, key).await.map(|answer| answer == Some(true));
        }
        let lock = sql::literal(Call::Try, form, self.span, key);
        let locked = self.in_new_transaction(&lock).await?;
        if column(&locked, 0) == Some("t") {
            return Ok(true);
        }
        self.roll_back().await?;
        Ok(false)
    }

    /// Does what comes before [`lock`](Self::lock).
    pub(crate) async fn prepare_lock(
        &self,
        key: PostgresAdvisoryLockKey,
        form: Form,
    ) -> LockResult<()> {
        if self.span == Span::Session {
            return self.prepare_unlock(form, key).await;
        }
        let begun = self.in_new_transaction("SELECT pg_backend_pid()").await?;
        self.remember_backend(&begun);
        Ok(())
    }

    /// Undoes [`prepare_lock`](Self::prepare_lock).
    pub(crate) async fn leave_lock(&self) -> LockResult<()> {
        match self.span {
            Span::Session => Ok(()),
            Span::Transaction => self.roll_back().await,
        }
    }

    /// Waits for a key in the server's queue. After an error nothing is held.
    pub(crate) async fn lock(&self, key: PostgresAdvisoryLockKey, form: Form) -> LockResult<()> {
        self.link.set_blocked(true);
        let unblocked = Unblocked(&self.link);
        let result = match self.span {
            Span::Session => self.call(Call::Block, form, key).await.map(drop),
            Span::Transaction => {
                let lock = sql::literal(Call::Block, form, self.span, key);
                self.words(&lock).await.map(drop)
            }
        };
        drop(unblocked);
        if result.is_err() {
            // The statement may have been interrupted just when it had the lock.
            self.nothing().await?;
            match self.span {
                Span::Session => drop(self.unlock(key, form).await?),
                Span::Transaction => self.roll_back().await?,
            }
        }
        result
    }

    /// Unlocks a key; `false` if this session did not have it.
    pub(crate) async fn unlock(
        &self,
        key: PostgresAdvisoryLockKey,
        form: Form,
    ) -> LockResult<bool> {
        match self.span {
            Span::Session => {
                self.call(Call::Unlock, form, key).await.map(|answer| answer == Some(true))
            }
            Span::Transaction => self.roll_back().await.map(|()| true),
        }
    }

    /// Whether a key could be locked now, by a session that has no part in it.
    pub(crate) async fn probe(&self, key: PostgresAdvisoryLockKey, form: Form) -> LockResult<bool> {
        if self.span == Span::Session {
            return self.call(Call::Probe, form, key).await.map(|answer| answer == Some(true));
        }
        let lock = sql::literal(Call::Try, form, self.span, key);
        let probed = self.words(&format!("BEGIN; {lock}; ROLLBACK")).await?;
        Ok(column(&probed, 0) == Some("t"))
    }

    /// Locks the first of these keys that is free.
    pub(crate) async fn scan(&self, slots: &[i64]) -> LockResult<Option<i64>> {
        if self.span == Span::Session {
            let scan = self.other(Other::Scan).await?;
            self.other(Other::ReleasePermit).await?;
            self.prepare_unlock(Form::Exclusive, PostgresAdvisoryLockKey::Single(0)).await?;
            let row = self.client().query_opt(scan, &[&slots]).await.map_err(classify)?;
            return row.map(|row| row.try_get(0)).transpose().map_err(classify);
        }
        let scanned = self.in_new_transaction(&sql::scan_in_transaction(slots)).await?;
        match column(&scanned, 0).and_then(|slot| slot.parse().ok()) {
            Some(slot) => Ok(Some(slot)),
            None => self.roll_back().await.map(|()| None),
        }
    }

    /// Unlocks a permit and tells whoever waits at the head of the queue; `false` if this session did
    /// not have it.
    pub(crate) async fn release_permit(
        &self,
        slot: i64,
        queue: i64,
        channel: &str,
    ) -> LockResult<bool> {
        if self.span == Span::Transaction {
            return self.roll_back().await.map(|()| true);
        }
        let release = self.other(Other::ReleasePermit).await?;
        let row = self.client().query_one(release, &[&slot, &queue, &channel]).await;
        row.and_then(|row| row.try_get(0)).map_err(classify)
    }

    /// Has the server send notifications of a channel, or no longer.
    pub(crate) async fn listen(&self, channel: &str, on: bool) -> LockResult<()> {
        let word = if on { "LISTEN" } else { "UNLISTEN" };
        self.words(&format!("{word} \"{channel}\"")).await.map(drop)
    }

    /// Completes with the next notification; one that came before is not missed.
    pub(crate) async fn notified(&self) {
        self.link.notified.notified().await;
    }

    /// A round trip. Every earlier request has been answered when it returns.
    pub(crate) async fn nothing(&self) -> LockResult<()> {
        self.words("").await.map(drop)
    }

    /// Interrupts another session's wait: `None` if that session is gone at the server, `false` if
    /// it does not wait now.
    pub(crate) async fn cancel_wait_of(&self, waiting: &Session) -> LockResult<Option<bool>> {
        self.about(waiting, Other::CancelWait).await
    }

    /// Whether another session waits; `None` if it is gone at the server.
    pub(crate) async fn sees_waiting(&self, waiting: &Session) -> LockResult<Option<bool>> {
        self.about(waiting, Other::Waits).await
    }

    /// Ends another session at the server.
    pub(crate) async fn terminate(&self, other: &Session) -> LockResult<()> {
        let backend = other.backend.load(Ordering::Relaxed);
        self.words(&format!("SELECT pg_terminate_backend({backend})")).await.map(drop)
    }

    async fn about(&self, other: &Session, statement: Other) -> LockResult<Option<bool>> {
        let backend = other.backend.load(Ordering::Relaxed);
        if self.span == Span::Transaction {
            let words = statement.words().replace("$1", &backend.to_string());
            return Ok(column(&self.words(&words).await?, 0).map(|answer| answer == "t"));
        }
        let statement = self.other(statement).await?;
        let row = self.client().query_opt(statement, &[&backend]).await.map_err(classify)?;
        row.map(|row| row.try_get(0)).transpose().map_err(classify)
    }

    /// Runs statements in the simple protocol, which every pooler understands.
    pub(crate) async fn words(&self, words: &str) -> LockResult<Vec<SimpleQueryMessage>> {
        self.client().simple_query(words).await.map_err(classify)
    }

    /// Runs statements in a transaction that stays open; rolled back if one of them fails.
    async fn in_new_transaction(&self, words: &str) -> LockResult<Vec<SimpleQueryMessage>> {
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

    async fn roll_back(&self) -> LockResult<()> {
        self.words("ROLLBACK").await.map(drop)
    }

    async fn call(
        &self,
        call: Call,
        form: Form,
        key: PostgresAdvisoryLockKey,
    ) -> LockResult<Option<bool>> {
        let cell = &self.calls[call.index(form, key)];
        let statement = match cell.get() {
            Some(statement) => statement,
            None => self.prepared(cell, &sql::statement(call, form, key)).await?,
        };
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
        self.client().query_one(statement, parameters).await.map_err(classify)
    }

    /// So that an unlock is sent as soon as it is asked for, and cannot be given up before.
    async fn prepare_unlock(&self, form: Form, key: PostgresAdvisoryLockKey) -> LockResult<()> {
        let cell = &self.calls[Call::Unlock.index(form, key)];
        if cell.get().is_none() {
            self.prepared(cell, &sql::statement(Call::Unlock, form, key)).await?;
        }
        Ok(())
    }

    async fn other(&self, statement: Other) -> LockResult<&Statement> {
        self.prepared(&self.others[statement as usize], statement.words()).await
    }

    async fn prepared<'a>(
        &self,
        cell: &'a OnceCell<Statement>,
        words: &str,
    ) -> LockResult<&'a Statement> {
        let prepare = || async { self.client().prepare(words).await.map_err(classify) };
        cell.get_or_try_init(prepare).await
    }

    /// The client, its connection driven from here on.
    pub(crate) fn client(&self) -> &Client {
        self.driver.ensure();
        &self.link.client
    }

    fn remember_backend(&self, answers: &[SimpleQueryMessage]) {
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

/// The blocked statement has ended, or nobody waits for it any more.
struct Unblocked<'a>(&'a Link);

impl Drop for Unblocked<'_> {
    fn drop(&mut self) {
        self.0.set_blocked(false);
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
