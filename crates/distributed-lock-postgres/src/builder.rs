//! Building a PostgreSQL lock provider.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_core::runtime::require_io;
use distributed_lock_core::{DriverProvider, Options};

use crate::connection::{Limits, SessionOptions, Sessions, Span, Target, check_server};
use crate::driver::PostgresDriver;
use crate::types::PostgresLockProvider;

/// Defaults.
const WAITING_SESSIONS: usize = 8;
const LOCKS_PER_SESSION: usize = 5_000;

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

impl PostgresLockProvider {
    /// A provider with options.
    ///
    /// ```no_run
    /// use distributed_lock_postgres::PostgresLockProvider;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let provider = PostgresLockProvider::builder()
    ///     .connection_string("postgres://app:secret@db.internal/app")
    ///     .build()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> PostgresLockProviderBuilder {
        PostgresLockProviderBuilder::default()
    }
}

/// Builds a [`PostgresLockProvider`].
#[derive(Clone)]
#[must_use]
pub struct PostgresLockProviderBuilder {
    connection_string: Option<String>,
    application_name: Option<String>,
    max_sessions: usize,
    max_waiting_sessions: Option<usize>,
    max_locks_per_session: Option<usize>,
    max_held: Option<usize>,
    keepalive_cadence: Duration,
    use_transaction: bool,
    fencing_sequence: Option<String>,
    engine: Options,
}

impl Default for PostgresLockProviderBuilder {
    fn default() -> Self {
        Self {
            connection_string: None,
            application_name: None,
            max_sessions: 32,
            max_waiting_sessions: None,
            max_locks_per_session: None,
            max_held: None,
            keepalive_cadence: Duration::from_secs(5),
            use_transaction: false,
            fencing_sequence: None,
            engine: Options::default(),
        }
    }
}

impl fmt::Debug for PostgresLockProviderBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The connection string may have a password.
        f.debug_struct("PostgresLockProviderBuilder")
            .field("application_name", &self.application_name)
            .field("max_sessions", &self.max_sessions)
            .field("max_waiting_sessions", &self.max_waiting_sessions)
            .field("max_locks_per_session", &self.max_locks_per_session)
            .field("max_held", &self.max_held)
            .field("keepalive_cadence", &self.keepalive_cadence)
            .field("use_transaction", &self.use_transaction)
            .field("fencing_sequence", &self.fencing_sequence)
            .finish_non_exhaustive()
    }
}

impl PostgresLockProviderBuilder {
    /// Sets where to connect to: a URL or `key=value` pairs, as libpq has them. Required.
    ///
    /// Locks belong to a database. Where none is named, PostgreSQL takes the one with the user's name, so
    /// two users would not exclude each other: name it (`postgres://user@host/database`). Without it a
    /// warning is logged.
    ///
    /// `sslmode` is `disable`, `prefer`, `require`, `verify-ca` or `verify-full`; without it,
    /// `verify-full`, or `disable` if every host is this machine. `sslrootcert` is a file of
    /// certificates in PEM, or `system`, the default. The server's name must be among its certificate's
    /// alternative names. On unix sockets there is no TLS; a warning is logged if it is required.
    ///
    /// Of several hosts the first that lets us in is used: by default one to write to
    /// (`target_session_attrs=read-write`), each given a second (`connect_timeout`, in seconds). The one
    /// that answered last is asked first.
    ///
    /// A silent link is noticed by TCP, too: `keepalives_idle`, `keepalives_interval` (5 and 2, in
    /// seconds), `keepalives_retries` (3), `tcp_user_timeout` (10, in seconds). What is not known is
    /// refused, with a list of what is; so are parameters that contradict each other or that nothing
    /// would read. Our sessions have no time limits for statements, locks and idleness, whatever
    /// `options` say.
    pub fn connection_string(mut self, connection_string: impl Into<String>) -> Self {
        self.connection_string = Some(connection_string.into());
        self
    }

    /// Sets what the sessions are called at the server, which is shown to people who wait. Default:
    /// that of the connection string, or `distributed-lock`. It is an error to give two.
    pub fn application_name(mut self, name: impl Into<String>) -> Self {
        self.application_name = Some(name.into());
        self
    }

    /// Sets how many sessions there may be. Default: 32. With [`use_transaction`], each held lock
    /// needs one.
    ///
    /// [`use_transaction`]: Self::use_transaction
    pub fn max_sessions(mut self, sessions: usize) -> Self {
        self.max_sessions = sessions;
        self
    }

    /// Sets how many of the sessions may wait at the same time, one for each name that is waited for.
    /// Default: 8, but at least one less than [`max_sessions`](Self::max_sessions). With 0 it only asks
    /// once a second.
    ///
    /// Beyond that, waits take turns, in order. A wait keeps its session while no other queues for it;
    /// else for 1 s the first time, twice as long each time after that, and 64 s at most. It begins at the
    /// end of the server's queue each time, and asks once a second in between. Giving up a session and
    /// opening the next takes at most 1 s and three times the
    /// [`operation_timeout`](Self::operation_timeout). So while the server can be reached, one of `n`
    /// waits with `s` sessions is without one for at most ⌈`n`/`s`⌉ − 1 times 71 s; of 16 names that
    /// others hold for long, each waits for half of the time.
    pub fn max_waiting_sessions(mut self, sessions: usize) -> Self {
        self.max_waiting_sessions = Some(sessions);
        self
    }

    /// Sets how many locks one session may have: all are lost if it ends. Default: 5,000. With
    /// [`use_transaction`](Self::use_transaction) it is 1, and anything else is an error.
    pub fn max_locks_per_session(mut self, locks: usize) -> Self {
        self.max_locks_per_session = Some(locks);
        self
    }

    /// Sets how many locks there may be in all sessions. Default: half the server's lock table, which
    /// all its users share: a full one fails everybody's statements. More than fit into
    /// [`max_sessions`](Self::max_sessions) is an error.
    pub fn max_held(mut self, locks: usize) -> Self {
        self.max_held = Some(locks);
        self
    }

    /// Sets how often a session is asked for a sign of life, and how long it may take to give one: the
    /// end of a silent link is told within twice this. Default: 5 s. The server lets go of the
    /// locks of a silent client later than that.
    pub fn keepalive_cadence(mut self, cadence: Duration) -> Self {
        self.keepalive_cadence = cadence;
        self
    }

    /// Sets how long one request may take, a new connection included. Default: 2 s.
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.engine = self.engine.operation_timeout(timeout);
        self
    }

    /// Holds each lock by a transaction instead of a session, which also works through poolers that
    /// change servers between transactions. Default: off.
    ///
    /// It costs one connection for each held lock, the vacuum that an open transaction holds up,
    /// fencing tokens (unless there is a [`fencing_sequence`](Self::fencing_sequence)), and the
    /// wake-up of those who wait for a permit, who look once a second instead.
    pub fn use_transaction(mut self, on: bool) -> Self {
        self.use_transaction = on;
        self
    }

    /// Draws fencing tokens from a sequence, which must exist: they then increase even through a crash
    /// of the server. Default: ids of transactions, of which those of the last moments before a
    /// crash may come again.
    pub fn fencing_sequence(mut self, name: impl Into<String>) -> Self {
        self.fencing_sequence = Some(name.into());
        self
    }

    /// Keeps background work and sessions on the library's own thread. Default: on the runtime in
    /// use.
    pub fn keeper_thread(mut self, on: bool) -> Self {
        self.engine = self.engine.keeper_thread(on);
        self
    }

    /// Connects and builds the provider.
    ///
    /// # Errors
    /// [`LockError::Config`] if an option cannot be used, the sequence is not there, a pooler changes
    /// servers between transactions, the server asks for a password that is not given, or there is no
    /// runtime; [`LockError::Connection`] if the server cannot be
    /// reached; [`LockError::Backend`] if it refuses, or is a standby.
    pub async fn build(self) -> LockResult<PostgresLockProvider> {
        let engine = self.engine.clone();
        let driver = self.build_driver().await?;
        Ok(PostgresLockProvider::over(DriverProvider::new(driver, engine)))
    }

    /// Builds the driver alone, for those who wrap it in another.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub async fn build_driver(self) -> LockResult<PostgresDriver> {
        self.check()?;
        require_io()?;
        let Some(connection_string) = &self.connection_string else {
            return Err(LockError::Config("connection_string is missing".into()));
        };
        let mut target = Target::parse(connection_string)?;
        if !target.names_database() {
            tracing::warn!(
                "the connection string names no database, so PostgreSQL takes the one with the user's \
                 name: other users' locks are not excluded"
            );
        }
        if target.wants_read_only() {
            return Err(LockError::Config(
                "target_session_attrs=read-only asks for a standby, whose locks do not exclude those \
                 on the primary; use read-write"
                    .into(),
            ));
        }
        if let Some(timeout) = target.connect_timeout()
            && timeout > self.engine.operation_timeout
        {
            tracing::warn!(
                "connect_timeout is {timeout:?}, and operation_timeout, {:?}, ends connecting before",
                self.engine.operation_timeout
            );
        }
        if let Some(name) = &self.application_name {
            target = target.with_application_name(name)?;
        }
        let span = if self.use_transaction { Span::Transaction } else { Span::Session };
        let options =
            SessionOptions { span, keepalive: self.keepalive_cadence, home: self.engine.home };
        let limits = Limits {
            sessions: self.max_sessions,
            waiting_sessions: self.waiting_sessions(),
            locks_per_session: self.locks_per_session(),
            locks: self.max_held.unwrap_or(usize::MAX),
            operation_timeout: self.engine.operation_timeout,
        };
        let sequence = self.fencing_sequence.as_deref();
        let (lock_table, tokens) = check_server(&target, options, limits, sequence).await?;
        let locks = self.max_held.unwrap_or(lock_table / 2);
        let sessions = Sessions::new(target, options, Limits { locks, ..limits });
        Ok(PostgresDriver::new(sessions, tokens))
    }

    fn waiting_sessions(&self) -> usize {
        let default = WAITING_SESSIONS.min(self.max_sessions.saturating_sub(1));
        self.max_waiting_sessions.unwrap_or(default)
    }

    fn locks_per_session(&self) -> usize {
        let default = if self.use_transaction { 1 } else { LOCKS_PER_SESSION };
        self.max_locks_per_session.unwrap_or(default)
    }

    fn check(&self) -> LockResult<()> {
        let count = 1..=1_000_000;
        within("max_sessions", self.max_sessions, 2..=10_000)?;
        let waiting = self.waiting_sessions();
        if waiting > self.max_sessions {
            return Err(LockError::Config(format!(
                "max_waiting_sessions is {waiting}, more than max_sessions, {}",
                self.max_sessions
            )));
        }
        within("max_locks_per_session", self.locks_per_session(), count.clone())?;
        within("max_held", self.max_held.unwrap_or(1), count)?;
        if self.use_transaction && self.max_locks_per_session.is_some_and(|locks| locks != 1) {
            return Err(LockError::Config(
                "max_locks_per_session has no use with use_transaction, where each lock has a session \
                 of its own"
                    .into(),
            ));
        }
        let most = self.max_sessions.saturating_mul(self.locks_per_session());
        if self.max_held.is_some_and(|held| held > most) {
            return Err(LockError::Config(format!(
                "max_held cannot be reached: max_sessions, {}, with {} locks each have {most}",
                self.max_sessions,
                self.locks_per_session()
            )));
        }
        let cadence = 100 * MILLISECOND..=HOUR;
        duration_within("keepalive_cadence", self.keepalive_cadence, cadence)?;
        let timeout = MILLISECOND..=HOUR;
        duration_within("operation_timeout", self.engine.operation_timeout, timeout)
    }
}

fn within(option: &str, value: usize, range: RangeInclusive<usize>) -> LockResult<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    Err(LockError::Config(format!("{option} is {value}; {least} to {most} works")))
}

fn duration_within(
    option: &str,
    value: Duration,
    range: RangeInclusive<Duration>,
) -> LockResult<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    Err(LockError::Config(format!("{option} is {value:?}; {least:?} to {most:?} works")))
}
