//! The statements that this crate sends, all of them.
//!
//! Everything that they name is `pg_catalog`'s: functions, operators, types and relations. A name without
//! its schema is looked up in the `search_path`, where others may have put a function that fits the
//! arguments better, and it would run with the rights of our user. So there is no `=`, `IN`, `USING`,
//! `LIKE`, `BETWEEN` or `CASE x WHEN` here: they look up an operator by its bare name.

use std::fmt::Write;
use std::time::Duration;

use crate::key::PostgresAdvisoryLockKey;

/// How a key is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Exclusive,
    Shared,
}

/// How long a lock lasts at the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    /// Until it is unlocked or its session ends: many in one session.
    Session,
    /// Until its transaction ends: one in a session, through poolers that change servers between
    /// transactions.
    Transaction,
}

/// What is done with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Try,
    Block,
    Unlock,
    /// Whether it could be had now; it is not kept.
    Probe,
}

impl Call {
    /// The number of statements that [`statement`] makes.
    pub(super) const STATEMENTS: usize = 16;

    /// Where the statement of this call is kept.
    pub(super) fn index(self, form: Form, key: PostgresAdvisoryLockKey) -> usize {
        let is_pair = matches!(key, PostgresAdvisoryLockKey::Pair(..));
        (self as usize) * 4 + (form as usize) * 2 + usize::from(is_pair)
    }
}

/// The statement of a call for session locks, with the key as parameters.
pub(super) fn statement(call: Call, form: Form, key: PostgresAdvisoryLockKey) -> String {
    let key = match key {
        PostgresAdvisoryLockKey::Single(_) => "$1::pg_catalog.int8",
        PostgresAdvisoryLockKey::Pair(..) => "$1::pg_catalog.int4, $2::pg_catalog.int4",
    };
    format!("SELECT {}", expression(call, form, Span::Session, key))
}

/// The same with the key written out.
pub(crate) fn literal(call: Call, form: Form, span: Span, key: PostgresAdvisoryLockKey) -> String {
    let key = match key {
        PostgresAdvisoryLockKey::Single(key) => format!("'{key}'::pg_catalog.int8"),
        PostgresAdvisoryLockKey::Pair(high, low) => {
            format!("'{high}'::pg_catalog.int4, '{low}'::pg_catalog.int4")
        }
    };
    format!("SELECT {}", expression(call, form, span, &key))
}

fn expression(call: Call, form: Form, span: Span, key: &str) -> String {
    let shared = match form {
        Form::Exclusive => "",
        Form::Shared => "_shared",
    };
    let span = match span {
        Span::Session => "",
        Span::Transaction => "_xact",
    };
    match call {
        Call::Try => format!("pg_catalog.pg_try_advisory{span}_lock{shared}({key})"),
        Call::Block => format!("pg_catalog.pg_advisory{span}_lock{shared}({key})"),
        Call::Unlock => format!("pg_catalog.pg_advisory_unlock{shared}({key})"),
        Call::Probe => format!(
            "CASE WHEN pg_catalog.pg_try_advisory_lock{shared}({key}) \
             THEN pg_catalog.pg_advisory_unlock{shared}({key}) ELSE false END"
        ),
    }
}

/// What else a session is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Other {
    Scan,
    ReleasePermit,
}

impl Other {
    pub(super) const COUNT: usize = 2;

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Scan => SCAN,
            Self::ReleasePermit => RELEASE_PERMIT,
        }
    }
}

/// Locks the first of the keys `$1` that is free. The scan is lazy: it ends with the first success.
const SCAN: &str = "SELECT slot FROM pg_catalog.unnest($1::pg_catalog.int8[]) AS slot \
     WHERE pg_catalog.pg_try_advisory_lock(slot) LIMIT 1";

/// The same in a transaction, with the keys written out.
pub(super) fn scan_in_transaction(slots: &[i64]) -> String {
    let mut keys = String::new();
    for slot in slots {
        // Writing to a string does not fail.
        let _ = write!(keys, "{slot},");
    }
    let keys = keys.trim_end_matches(',');
    format!(
        "SELECT slot FROM pg_catalog.unnest('{{{keys}}}'::pg_catalog.int8[]) AS slot \
         WHERE pg_catalog.pg_try_advisory_xact_lock(slot) LIMIT 1"
    )
}

/// The channel on which the releases of permits are notified: one for all semaphores, so that their
/// names make no statements of their own. The payload is the queue key.
macro_rules! channel {
    () => {
        "distributed-lock"
    };
}

/// Has the server send notifications.
pub(super) const LISTEN: &str = concat!("LISTEN \"", channel!(), "\"");

/// Has it send them no longer.
pub(super) const UNLISTEN: &str = concat!("UNLISTEN \"", channel!(), "\"");

/// Unlocks the permit `$1` and, if a session has the queue key `$2`, notifies it.
const RELEASE_PERMIT: &str = concat!(
    "SELECT CASE WHEN pg_catalog.pg_advisory_unlock($1::pg_catalog.int8) THEN ",
    "CASE WHEN pg_catalog.pg_try_advisory_lock_shared($2::pg_catalog.int8) ",
    "THEN pg_catalog.pg_advisory_unlock_shared($2::pg_catalog.int8) ",
    "ELSE pg_catalog.pg_notify('",
    channel!(),
    "', $2::pg_catalog.int8::pg_catalog.text) IS NOT NULL END ELSE false END"
);

/// Whether a backend waits for a lock, and for how long, in seconds, the latest session has waited for
/// somebody's snapshot to end; no row if the backend is gone.
///
/// Both can be seen whatever role the backend has. Waits for snapshots are looked for only while an index
/// is being built, because reading all locks costs the server more than the rest; unless that cannot be
/// seen.
pub(super) fn look_after(backend: i32) -> String {
    format!(
        "SELECT pg_catalog.cardinality(pg_catalog.pg_blocking_pids(a.pid)) \
         OPERATOR(pg_catalog.>) 0, CASE WHEN EXISTS \
         (SELECT FROM pg_catalog.pg_stat_get_progress_info('CREATE INDEX')) \
         OR NOT pg_catalog.current_setting('track_activities')::pg_catalog.bool \
         THEN (SELECT pg_catalog.min(extract(epoch FROM (pg_catalog.clock_timestamp() \
         OPERATOR(pg_catalog.-) coalesce(l.waitstart, pg_catalog.clock_timestamp())))) \
         FROM pg_catalog.pg_locks l \
         WHERE l.locktype OPERATOR(pg_catalog.=) 'virtualxid' AND NOT l.granted) END, \
         (SELECT pg_catalog.sum(pg_catalog.pg_stat_get_db_numbackends(d.oid)) \
         OPERATOR(pg_catalog.*) 4 FROM pg_catalog.pg_database d) OPERATOR(pg_catalog.>) \
         (3 OPERATOR(pg_catalog.*) pg_catalog.current_setting('max_connections')::pg_catalog.int8) \
         FROM pg_catalog.pg_stat_get_activity({backend}) a"
    )
}

/// What an administrator may have set and would end a lock, or a wait, too early.
const NO_LIMITS: &str = "('lock_timeout', '0'), ('statement_timeout', '0'), \
     ('idle_in_transaction_session_timeout', '0'), ('transaction_timeout', '0')";

/// Settings of a session. What a version does not know is left out.
pub(super) fn session_settings(keepalive: Duration) -> String {
    // A holder is told after two keepalive cadences; the server must not let go before.
    let idle = keepalive.saturating_mul(2).as_secs().max(1);
    let unanswered = keepalive.saturating_mul(3).as_millis().clamp(1, 1 << 30);
    format!(
        "SELECT pg_catalog.set_config(name, value, false) FROM (VALUES {NO_LIMITS}, \
         ('idle_session_timeout', '0'), ('tcp_keepalives_idle', '{idle}'), \
         ('tcp_keepalives_interval', '2'), ('tcp_keepalives_count', '3'), \
         ('tcp_user_timeout', '{unanswered}')) AS wanted (name, value) \
         WHERE pg_catalog.current_setting(name, true) IS NOT NULL"
    )
}

/// How soon the server notices that the client of a blocked statement is gone. Each time it looks it
/// writes a log entry, if it logs waits; so it looks rarely then, after the end of a turn of ours.
const CHECK_CLIENT: &str = "('client_connection_check_interval', \
     CASE WHEN pg_catalog.current_setting('log_lock_waits')::pg_catalog.bool \
     THEN '60s' ELSE '500ms' END)";

/// Has the server look after the client of a blocked statement, until the session ends. Not every
/// platform can.
pub(super) fn check_client() -> String {
    format!(
        "SELECT pg_catalog.set_config(name, value, false) \
         FROM (VALUES {CHECK_CLIENT}) AS wanted (name, value)"
    )
}

/// Whether that works, without a trace.
pub(super) fn can_check_client() -> String {
    format!("BEGIN; {}; ROLLBACK", check_client())
}

/// Begins a transaction that lasts as long as its lock.
pub(super) fn begin(checks_client: bool) -> String {
    let check = if checks_client { format!(", {CHECK_CLIENT}") } else { String::new() };
    format!(
        "BEGIN; SELECT pg_catalog.set_config(name, value, true) FROM (VALUES {NO_LIMITS}{check}) \
         AS wanted (name, value) WHERE pg_catalog.current_setting(name, true) IS NOT NULL"
    )
}

/// The process that serves the session.
pub(crate) const BACKEND: &str = "SELECT pg_catalog.pg_backend_pid()";

/// The process that serves the session, and whether the server is a standby.
pub(super) const FACTS: &str = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.pg_is_in_recovery()";

/// How many locks fit into the server's shared memory, by its documentation of
/// `max_locks_per_transaction`.
pub(super) const LOCK_TABLE: &str = "SELECT \
     pg_catalog.current_setting('max_locks_per_transaction')::pg_catalog.int8 OPERATOR(pg_catalog.*) \
     (pg_catalog.current_setting('max_connections')::pg_catalog.int8 OPERATOR(pg_catalog.+) \
     pg_catalog.current_setting('max_prepared_transactions')::pg_catalog.int8)";

/// Interrupts a backend while it waits for a lock; also whether this session's role may do so. It raises
/// no error, which would end the transaction that it may run in.
pub(super) fn cancel_wait(backend: i32) -> String {
    let may = "pg_catalog.pg_has_role(usesysid, 'USAGE')";
    format!(
        "SELECT CASE WHEN wait_event_type OPERATOR(pg_catalog.=) 'Lock' AND {may} \
         THEN pg_catalog.pg_cancel_backend(pid) END, {may} \
         FROM pg_catalog.pg_stat_get_activity({backend})"
    )
}

/// Ends the backend of another session, as the role that both have logged in as.
pub(super) fn terminate(backend: i32) -> String {
    format!(
        "SELECT pg_catalog.set_config('role', 'none', true), \
         pg_catalog.pg_terminate_backend({backend})"
    )
}

/// A text as a constant that means the same whatever `standard_conforming_strings` is.
pub(crate) fn text(text: &str) -> String {
    format!("E'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}

/// Whether the sequence may be used; no row if there is none. Its name is looked up in the caller's
/// `search_path`, as everywhere.
pub(super) fn sequence_privilege(name: &str) -> String {
    format!(
        "SELECT pg_catalog.has_sequence_privilege(c.oid, 'USAGE') FROM pg_catalog.pg_class c \
         WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass({}) \
         AND c.relkind OPERATOR(pg_catalog.=) 'S'",
        text(name)
    )
}

/// Draws a fencing token from a sequence.
pub(crate) fn next_of(sequence: &str) -> String {
    format!("SELECT pg_catalog.nextval({}::pg_catalog.regclass)", text(sequence))
}

/// A fencing token without a sequence.
pub(crate) const TRANSACTION_ID: &str = "SELECT pg_catalog.pg_current_xact_id()";

/// The holder of a key that has been connected for longest: process, application and host.
pub(crate) fn holder(key: PostgresAdvisoryLockKey) -> String {
    let (class, object, form) = key.in_pg_locks();
    format!(
        "SELECT a.pid, a.application_name, \
         coalesce(a.client_hostname, pg_catalog.host(a.client_addr)) \
         FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a \
         ON l.pid OPERATOR(pg_catalog.=) a.pid \
         WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.granted \
         AND l.classid OPERATOR(pg_catalog.=) {class} AND l.objid OPERATOR(pg_catalog.=) {object} \
         AND l.objsubid OPERATOR(pg_catalog.=) {form} AND l.database OPERATOR(pg_catalog.=) \
         (SELECT oid FROM pg_catalog.pg_database \
         WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database()) \
         ORDER BY a.backend_start LIMIT 1"
    )
}

/// The savepoint that a request in the caller's transaction is made in.
const SAVEPOINT: &str = "distributed_lock";

/// Sets the savepoint in the caller's transaction and tries; also the process that serves it, and when
/// it began.
pub(crate) fn try_in_savepoint(form: Form, key: PostgresAdvisoryLockKey) -> String {
    let lock = literal(Call::Try, form, Span::Transaction, key);
    let began = began("pg_catalog.now()");
    format!("SAVEPOINT {SAVEPOINT}; {lock}, pg_catalog.pg_backend_pid(), {began}")
}

/// Takes away the savepoint, and with it what happened since unless that is to be `kept`.
pub(crate) fn end_savepoint(kept: bool) -> String {
    let undo = if kept { String::new() } else { format!("ROLLBACK TO {SAVEPOINT}; ") };
    format!("{undo}RELEASE {SAVEPOINT}")
}

/// A moment as text that is the same in every session.
fn began(moment: &str) -> String {
    format!("pg_catalog.to_char(pg_catalog.timezone('UTC', {moment}), 'YYYYMMDDHH24MISSUS')")
}

/// Runs behind an abandoned wait in the caller's transaction, so that a cancellation that comes too
/// late for that finds this instead of the caller's next statement.
pub(crate) const SLEEP: &str = "SELECT pg_catalog.pg_sleep(10)";

/// Fails, and with it the caller's transaction.
pub(crate) const FAIL: &str =
    "SELECT 'a lock was abandoned: roll this transaction back'::pg_catalog.int4";

/// Interrupts a backend while the transaction that began then waits for a lock of ours, or is in
/// [`SLEEP`]. However late it arrives, it hits nothing else. `true` unless this session may not see
/// what that one does.
pub(crate) fn cancel_wait_in(backend: i32, begun: &str) -> String {
    format!(
        "SELECT state IS NOT NULL AND coalesce(CASE WHEN wait_event OPERATOR(pg_catalog.=) \
         ANY ('{{advisory,PgSleep}}'::pg_catalog.text[]) AND {} OPERATOR(pg_catalog.=) {} \
         THEN pg_catalog.pg_cancel_backend(pid) END, true) \
         FROM pg_catalog.pg_stat_get_activity({backend})",
        began("xact_start"),
        text(begun)
    )
}

#[cfg(test)]
mod tests;
