//! `postgres://` and `postgresql://`.

use distributed_lock_core::DynLockProvider;
use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_postgres::{PostgresLockProvider, PostgresLockProviderBuilder};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::options::UrlOptions;

/// The URL may name several hosts, as PostgreSQL's may and others' may not: only its query is taken
/// apart here, and what is not ours goes on with the rest.
pub(super) async fn connect(url: &str) -> LockResult<DynLockProvider> {
    let (builder, connection_string, ours) = read(url)?;
    match builder.connection_string(connection_string).build().await {
        Ok(provider) => Ok(DynLockProvider::new(provider)),
        // It lists PostgreSQL's own.
        Err(LockError::Config(reason)) if reason.starts_with("unknown parameter") => {
            Err(LockError::Config(format!("{reason}; of this library {ours}")))
        }
        Err(error) => Err(error),
    }
}

/// What our options make, what is left for PostgreSQL's client, and the names of ours.
fn read(url: &str) -> LockResult<(PostgresLockProviderBuilder, String, String)> {
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
    let encoded = |(name, value): &(String, String)| {
        format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC))
    };
    let theirs: Vec<String> = options.rest()?.iter().map(encoded).collect();
    let connection_string = match theirs.join("&") {
        query if query.is_empty() => server.to_owned(),
        query => format!("{server}?{query}"),
    };
    Ok((builder, connection_string, ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_62_options_of_the_server_are_decoded_once() {
        let url = "postgres://h/d?options=-c%20search_path%3Dx&max_held=7&password=a+b%2Bc%2525";
        let (_, left, _) = read(url).unwrap();
        let value = |name: &str| {
            let (_, rest) = left.split_once(&format!("{name}=")).unwrap();
            let encoded = rest.split('&').next().unwrap();
            percent_encoding::percent_decode_str(encoded).decode_utf8().unwrap().into_owned()
        };
        assert_eq!(value("options"), "-c search_path=x");
        assert_eq!(value("password"), "a+b+c%25");
        assert!(left.starts_with("postgres://h/d?") && !left.contains("max_held"), "{left}");
    }
}
