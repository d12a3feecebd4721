//! Whether somebody between us and the server changes its sessions behind our backs.

use std::time::Duration;

use distributed_lock_core::error::{LockError, LockResult};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::sql;
use crate::error::classify;

/// How often the first session asks before the second holds on to one, and after that.
const BEFORE: usize = 4;
const AFTER: usize = 3;

/// Finds out whether two sessions have a session at the server each, and keep it.
///
/// The first asks who serves it. The second does so in a transaction, so that whoever serves it is its
/// own until that ends; and the first asks again. A pooler that gives away a server's session between
/// transactions has given the first one's to the second, or gives the first one another now. By simple
/// queries only: poolers of that kind may not know prepared statements.
///
/// # Errors
/// [`LockError::Config`] if they have not.
///
/// # Cancel safety
/// The second session may be left in a transaction.
pub(crate) async fn probe(a: &Client, b: &Client) -> LockResult<()> {
    let own = backend(a).await?;
    let mut is_kept = true;
    for _ in 1..BEFORE {
        is_kept &= backend(a).await? == own;
    }
    simple(b, "BEGIN").await?;
    let second = async {
        let other = backend(b).await?;
        for _ in 0..AFTER {
            is_kept &= backend(a).await? == own;
        }
        Ok::<_, LockError>(other)
    };
    let other = second.await;
    simple(b, "ROLLBACK").await?;
    if is_kept && other? != own { Ok(()) } else { Err(refusal("the server's session changes")) }
}

/// The error when there was no outcome in time: a pooler may have no session at the server left for one
/// of us.
pub(crate) fn unanswered(limit: Duration) -> LockError {
    refusal(&format!("two sessions got no answers side by side within {limit:?}"))
}

fn refusal(seen: &str) -> LockError {
    LockError::Config(format!(
        "{seen}: it looks like a pooler that gives each transaction another one, where locks that last \
         as long as a session break silently; connect to the server directly or by session pooling, or \
         use_transaction(true)"
    ))
}

/// Who serves it now.
async fn backend(client: &Client) -> LockResult<Option<String>> {
    let answers = simple(client, sql::BACKEND).await?;
    Ok(answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0).map(ToOwned::to_owned),
        _ => None,
    }))
}

async fn simple(client: &Client, statement: &str) -> LockResult<Vec<SimpleQueryMessage>> {
    client.simple_query(statement).await.map_err(classify)
}

#[cfg(test)]
mod tests {
    use distributed_lock_testkit::servers::{Pgbouncer, PoolMode, PostgresServer};

    use super::super::Target;
    use super::*;

    /// Enough for anybody who answers at all.
    const LIMIT: Duration = Duration::from_secs(2);

    async fn session(url: &str) -> Client {
        let (client, wire) = Target::parse(url).unwrap().connect().await.unwrap();
        tokio::spawn(wire);
        client
    }

    /// What the probe says of new sessions, and that its transaction is over.
    async fn verdict(url: &str) -> LockResult<()> {
        let (a, b) = (session(url).await, session(url).await);
        let verdict = probe(&a, &b).await;
        // Fails in a transaction.
        b.batch_execute("VACUUM pg_catalog.pg_am").await.unwrap();
        verdict
    }

    fn assert_refused(verdict: LockResult<()>) {
        match verdict {
            Err(LockError::Config(reason)) => assert!(reason.contains("use_transaction(true)")),
            other => panic!("not noticed: {other:?}"),
        }
    }

    #[tokio::test]
    async fn the_server_itself_and_session_pooling_pass() {
        let server = PostgresServer::shared();
        let pooler = Pgbouncer::start(server, PoolMode::Session);
        for _ in 0..100 {
            verdict(&server.url()).await.unwrap();
            verdict(&pooler.url()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn transaction_pooling_is_noticed() {
        let pooler = Pgbouncer::start(PostgresServer::shared(), PoolMode::Transaction);
        for _ in 0..40 {
            assert_refused(verdict(&pooler.url()).await);
        }
    }

    #[tokio::test]
    async fn transaction_pooling_is_noticed_among_busy_clients() {
        let pooler = Pgbouncer::start(PostgresServer::shared(), PoolMode::Transaction);
        let mut others = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let other = session(&pooler.url()).await;
            others.spawn(async move {
                loop {
                    other.batch_execute("BEGIN; SELECT pg_sleep(0.0005); COMMIT").await.unwrap();
                }
            });
        }
        for _ in 0..40 {
            assert_refused(verdict(&pooler.url()).await);
        }
    }

    #[tokio::test]
    async fn a_pooler_without_enough_sessions_is_not_waited_for() {
        let one = [("default_pool_size", "1")];
        let server = PostgresServer::shared();
        for mode in [PoolMode::Session, PoolMode::Transaction] {
            let pooler = Pgbouncer::start_with(server, mode, &one);
            let (a, b) = (session(&pooler.url()).await, session(&pooler.url()).await);
            assert!(tokio::time::timeout(LIMIT / 4, probe(&a, &b)).await.is_err(), "{mode:?}");
            assert_refused(Err(unanswered(LIMIT)));
        }
    }
}
