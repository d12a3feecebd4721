//! Behind poolers.

use distributed_lock_core::error::LockError;
use distributed_lock_core::prelude::*;
use distributed_lock_postgres::PostgresLockProvider;
use distributed_lock_testkit::servers::{Pgbouncer, PoolMode, PostgresServer};

/// One holds a lock and another is refused, then gets it.
async fn excludes(one: &PostgresLockProvider, other: &PostgresLockProvider) {
    let handle = one.acquire_lock("behind a pooler", None).await.unwrap();
    assert!(other.try_acquire_lock("behind a pooler").await.unwrap().is_none());
    handle.release().await.unwrap();
    let handle = other.try_acquire_lock("behind a pooler").await.unwrap().unwrap();
    handle.release().await.unwrap();
}

#[tokio::test]
async fn transaction_pooling_is_refused_unless_asked_for() {
    let server = PostgresServer::start(&[]);
    let direct = PostgresLockProvider::builder().connection_string(server.url());
    let direct = direct.build().await.unwrap();
    for settings in [&[][..], &[("default_pool_size", "1")]] {
        let pooler = Pgbouncer::start_with(&server, PoolMode::Transaction, settings);
        let builder = PostgresLockProvider::builder().connection_string(pooler.url());
        match builder.clone().build().await {
            Err(LockError::Config(reason)) => {
                assert!(reason.contains("pooler") && reason.contains("use_transaction(true)"));
            }
            other => panic!("{settings:?}: {other:?}"),
        }
        let provider = builder.use_transaction(true).build().await.unwrap();
        excludes(&provider, &direct).await;
        excludes(&direct, &provider).await;
    }
}

#[tokio::test]
async fn session_pooling_works() {
    let server = PostgresServer::start(&[]);
    let pooler = Pgbouncer::start(&server, PoolMode::Session);
    let build = |url| PostgresLockProvider::builder().connection_string(url).build();
    let (direct, provider) =
        (build(server.url()).await.unwrap(), build(pooler.url()).await.unwrap());
    excludes(&provider, &direct).await;
    excludes(&direct, &provider).await;
}
