//! `postgres://` and `postgresql://`.

use distributed_lock_core::DynLockProvider;
use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_postgres::PostgresLockProvider;
use url::form_urlencoded::Serializer;

use super::options::UrlOptions;

/// The URL may name several hosts, as PostgreSQL's may and others' may not: only its query is taken
/// apart here, and what is not ours goes on with the rest.
pub(super) async fn connect(url: &str) -> LockResult<DynLockProvider> {
    let (server, query) = url.split_once('?').unwrap_or((url, ""));
    let mut options = UrlOptions::of(query)?;
    let mut builder = PostgresLockProvider::builder();
    if let Some(sessions) = options.number("max_sessions")? {
        builder = builder.max_sessions(sessions);
    }
    if let Some(sessions) = options.number("max_waiting_sessions")? {
        builder = builder.max_waiting_sessions(sessions);
    }
    if let Some(locks) = options.number("max_locks_per_session")? {
        builder = builder.max_locks_per_session(locks);
    }
    if let Some(locks) = options.number("max_held")? {
        builder = builder.max_held(locks);
    }
    if let Some(cadence) = options.duration("keepalive_cadence")? {
        builder = builder.keepalive_cadence(cadence);
    }
    if let Some(timeout) = options.duration("operation_timeout")? {
        builder = builder.operation_timeout(timeout);
    }
    if let Some(on) = options.switch("use_transaction")? {
        builder = builder.use_transaction(on);
    }
    if let Some(name) = options.text("fencing_sequence") {
        builder = builder.fencing_sequence(name);
    }
    if let Some(name) = options.text("application_name") {
        builder = builder.application_name(name);
    }
    if let Some(on) = options.switch("keeper_thread")? {
        builder = builder.keeper_thread(on);
    }
    let ours = options.known();
    let theirs = Serializer::new(String::new()).extend_pairs(options.rest()?).finish();
    let connection_string = match theirs {
        query if query.is_empty() => server.to_owned(),
        query => format!("{server}?{query}"),
    };
    match builder.connection_string(connection_string).build().await {
        Ok(provider) => Ok(DynLockProvider::new(provider)),
        // It lists PostgreSQL's own.
        Err(LockError::Config(reason)) if reason.starts_with("unknown parameter") => {
            Err(LockError::Config(format!("{reason}; of this library {ours}")))
        }
        Err(error) => Err(error),
    }
}
