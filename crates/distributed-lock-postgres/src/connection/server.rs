//! What must be true of a server before anybody relies on its locks.

use std::time::Duration;

use distributed_lock_core::error::{LockError, LockResult, NoAnswer};

use super::pooler;
use super::session::{Session, SessionOptions, column};
use super::sessions::Limits;
use super::sql::{self, Span};
use super::target::Target;
use crate::error::is_about_a_name;
use crate::token::Tokens;

/// Connects twice, asks, and closes; returns the size of the lock table, and where tokens come from.
pub(crate) async fn check_server(
    target: &Target,
    options: SessionOptions,
    limits: Limits,
    sequence: Option<&str>,
) -> LockResult<(usize, Tokens)> {
    let limit = limits.operation_timeout;
    let first = bounded(limit, Session::open(target, options, |_| Box::pin(forever()))).await?;
    bounded(limit, check_version(&first)).await?;
    if options.span == Span::Session {
        let second =
            bounded(limit, Session::open(target, options, |_| Box::pin(forever()))).await?;
        let probe = pooler::probe(first.client(), second.client());
        match tokio::time::timeout(limit, probe).await {
            Ok(verdict) => verdict?,
            Err(_) => return Err(pooler::unanswered(limit)),
        }
    }
    let lock_table = bounded(limit, lock_table(&first)).await?;
    let tokens = match sequence {
        Some(name) => bounded(limit, find_sequence(&first, name)).await?,
        None => Tokens::TransactionIds,
    };
    Ok((lock_table, tokens))
}

async fn forever() {
    std::future::pending().await
}

async fn bounded<T>(limit: Duration, step: impl Future<Output = LockResult<T>>) -> LockResult<T> {
    match tokio::time::timeout(limit, step).await {
        Ok(result) => result,
        Err(_) => Err(LockError::connection(NoAnswer(limit))),
    }
}

async fn check_version(session: &Session) -> LockResult<()> {
    let answers = session.words("SHOW server_version_num").await?;
    let version = column(&answers, 0).and_then(|version| version.parse::<u32>().ok());
    match version {
        Some(old) if old < 140_000 => Err(LockError::Unsupported(format!(
            "PostgreSQL {}; 14 is the oldest that works",
            old / 10_000
        ))),
        _ => Ok(()),
    }
}

/// How many locks fit into the server's shared memory.
async fn lock_table(session: &Session) -> LockResult<usize> {
    let answers = session.words(sql::LOCK_TABLE).await?;
    Ok(column(&answers, 0).and_then(|locks| locks.parse().ok()).unwrap_or(64 * 100))
}

async fn find_sequence(session: &Session, name: &str) -> LockResult<Tokens> {
    let refused =
        |reason: &str| Err(LockError::Config(format!("fencing_sequence {name}: {reason}")));
    if name.contains('\0') {
        return Err(LockError::Config("fencing_sequence has a NUL character in its name".into()));
    }
    let answers = match session.words(&sql::sequence_privilege(name)).await {
        Err(error) if is_about_a_name(&error) => {
            return refused("no name of a sequence; write it as in SQL, with its schema");
        }
        answers => answers?,
    };
    match column(&answers, 0) {
        Some("t") => Ok(Tokens::Sequence(name.to_owned())),
        Some(_) => refused(&format!("not permitted; GRANT USAGE ON SEQUENCE {name} TO this user")),
        None => refused(&format!("it does not exist; CREATE SEQUENCE {name} AS bigint MINVALUE 1")),
    }
}
