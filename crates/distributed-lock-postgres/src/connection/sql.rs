//! The statements of advisory locks.

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
        PostgresAdvisoryLockKey::Single(_) => "$1::int8",
        PostgresAdvisoryLockKey::Pair(..) => "$1::int4, $2::int4",
    };
    format!("SELECT {}", expression(call, form, Span::Session, key))
}

/// The same with the key written out.
pub(crate) fn literal(call: Call, form: Form, span: Span, key: PostgresAdvisoryLockKey) -> String {
    let key = match key {
        PostgresAdvisoryLockKey::Single(key) => format!("'{key}'::int8"),
        PostgresAdvisoryLockKey::Pair(high, low) => format!("'{high}'::int4, '{low}'::int4"),
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
        Call::Try => format!("pg_try_advisory{span}_lock{shared}({key})"),
        Call::Block => format!("pg_advisory{span}_lock{shared}({key})"),
        Call::Unlock => format!("pg_advisory_unlock{shared}({key})"),
        Call::Probe => format!(
            "CASE WHEN pg_try_advisory_lock{shared}({key}) \
             THEN pg_advisory_unlock{shared}({key}) ELSE false END"
        ),
    }
}

/// What else a session is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Other {
    Scan,
    ReleasePermit,
    CancelWait,
    Waits,
}

impl Other {
    pub(super) const COUNT: usize = 4;

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Scan => SCAN,
            Self::ReleasePermit => RELEASE_PERMIT,
            Self::CancelWait => CANCEL_WAIT,
            Self::Waits => WAITS,
        }
    }
}

/// Locks the first of the keys `$1` that is free. The scan is lazy: it ends with the first success.
const SCAN: &str =
    "SELECT slot FROM unnest($1::int8[]) AS slot WHERE pg_try_advisory_lock(slot) LIMIT 1";

/// The same in a transaction, with the keys written out.
pub(super) fn scan_in_transaction(slots: &[i64]) -> String {
    let mut keys = String::new();
    for slot in slots {
        // Writing to a string does not fail.
        let _ = write!(keys, "{slot},");
    }
    let keys = keys.trim_end_matches(',');
    format!(
        "SELECT slot FROM unnest('{{{keys}}}'::int8[]) AS slot \
         WHERE pg_try_advisory_xact_lock(slot) LIMIT 1"
    )
}

/// Unlocks the permit `$1` and, if somebody has the queue key `$2`, notifies the channel `$3`.
const RELEASE_PERMIT: &str = "SELECT CASE WHEN pg_advisory_unlock($1::int8) THEN \
     CASE WHEN pg_try_advisory_lock_shared($2::int8) THEN pg_advisory_unlock_shared($2::int8) \
     ELSE pg_notify($3::text, '') IS NOT NULL END ELSE false END";

/// Interrupts the backend `$1` while it waits for a lock: no row if it is gone, `true` if it was
/// told, `false` or null if it does not wait.
const CANCEL_WAIT: &str = "SELECT coalesce(wait_event_type = 'Lock', false) AND \
     pg_cancel_backend(pid) FROM pg_stat_get_activity($1::int4)";

/// Whether the backend `$1` waits for a lock; no row if it is gone.
const WAITS: &str =
    "SELECT coalesce(wait_event_type = 'Lock', false) FROM pg_stat_get_activity($1::int4)";

/// What an administrator may have set and would end a lock, or a wait, too early.
const NO_LIMITS: &str = "('lock_timeout', '0'), ('statement_timeout', '0'), \
     ('idle_in_transaction_session_timeout', '0'), ('transaction_timeout', '0')";

/// Settings of a session. What a version does not know is left out.
pub(super) fn session_settings(keepalive: Duration) -> String {
    // A holder is told after two keepalive cadences; the server must not let go before.
    let idle = keepalive.saturating_mul(2).as_secs().max(1);
    let unanswered = keepalive.saturating_mul(3).as_millis().clamp(1, 1 << 30);
    format!(
        "SELECT set_config(name, value, false) FROM (VALUES {NO_LIMITS}, \
         ('idle_session_timeout', '0'), ('tcp_keepalives_idle', '{idle}'), \
         ('tcp_keepalives_interval', '2'), ('tcp_keepalives_count', '3'), \
         ('tcp_user_timeout', '{unanswered}')) AS wanted (name, value) \
         WHERE current_setting(name, true) IS NOT NULL"
    )
}

/// How soon the server notices that the client of a blocked statement is gone.
const CHECK_CLIENT: &str = "('client_connection_check_interval', '500ms')";

/// Has the server look after the client of a blocked statement, until the session ends. Not every
/// platform can.
pub(super) fn check_client() -> String {
    format!("SELECT set_config(name, value, false) FROM (VALUES {CHECK_CLIENT}) AS _ (name, value)")
}

/// Whether that works, without a trace.
pub(super) fn can_check_client() -> String {
    format!("BEGIN; {}; ROLLBACK", check_client())
}

/// Begins a transaction that lasts as long as its lock.
pub(super) fn begin(checks_client: bool) -> String {
    let check = if checks_client { format!(", {CHECK_CLIENT}") } else { String::new() };
    format!(
        "BEGIN; SELECT set_config(name, value, true) FROM (VALUES {NO_LIMITS}{check}) \
         AS wanted (name, value) WHERE current_setting(name, true) IS NOT NULL"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statement_has_its_own_index() {
        let keys = [PostgresAdvisoryLockKey::Single(1), PostgresAdvisoryLockKey::Pair(1, 2)];
        let mut seen = std::collections::HashSet::new();
        for call in [Call::Try, Call::Block, Call::Unlock, Call::Probe] {
            for form in [Form::Exclusive, Form::Shared] {
                for key in keys {
                    assert!(call.index(form, key) < Call::STATEMENTS);
                    assert!(seen.insert(call.index(form, key)));
                }
            }
        }
    }

    #[test]
    fn a_server_lets_go_later_than_a_holder_is_told() {
        let settings = session_settings(Duration::from_secs(5));
        assert!(settings.contains("('tcp_keepalives_idle', '10')"), "{settings}");
        assert!(settings.contains("('tcp_user_timeout', '15000')"), "{settings}");
    }
}
