//! Refusals that pass by themselves, during a wait.

use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_postgres::connection::WrongAttributes;
use distributed_lock_postgres::{
    LockTableFull, PostgresLockProvider, PostgresLockProviderBuilder, Standby,
};
use distributed_lock_testkit::outage::given_back;
use distributed_lock_testkit::servers::PostgresServer;
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

use crate::observer::{Observer, QUEUED};
use crate::{MS, SECOND, builder};

/// How long the server refuses.
const REFUSES_FOR: Duration = Duration::from_secs(5);

/// A foreign holder, a wait behind it and two behind a holder of their own process; `refuse` has the
/// server refuse for a while and ends what they hold. All waits get their locks.
async fn waits_go_on(
    server: &PostgresServer,
    build: impl AsyncFn() -> PostgresLockProvider,
    refuse: impl AsyncFnOnce(&PostgresLockProvider),
) {
    let (holder, here) = (build().await, build().await);
    let foreign = holder.acquire_lock("foreign", None).await.unwrap();
    let own = here.acquire_lock("own", None).await.unwrap();
    let permit = holder.create_semaphore("permits", 1).acquire(None).await.unwrap();
    let mut waiting = JoinSet::new();
    for name in ["foreign", "own", "own"] {
        let here = here.clone();
        waiting.spawn(async move {
            given_back(here.acquire_lock(name, Some(40 * SECOND)).await?).await
        });
    }
    let semaphore = here.create_semaphore("permits", 1);
    waiting.spawn(async move { given_back(semaphore.acquire(Some(40 * SECOND)).await?).await });
    Observer::of(server).await.until(QUEUED, 1, 5 * SECOND).await;
    tokio::time::sleep(200 * MS).await;
    refuse(&here).await;
    drop((foreign, own, permit));
    while let Some(ended) = waiting.join_next().await {
        ended.unwrap().unwrap();
    }
}

/// The server comes back as a standby and is promoted after a while.
async fn comes_back_as_a_standby(
    server: &PostgresServer,
    here: &PostgresLockProvider,
    several: bool,
) {
    server.restart_as_standby();
    tokio::time::sleep(REFUSES_FOR).await;
    let newcomer = here.try_acquire_lock("newcomer").await.unwrap_err();
    assert!(newcomer.is_retryable(), "{newcomer:?}");
    let is_refusal = newcomer.find_source::<Standby>().is_some()
        || newcomer.find_source::<WrongAttributes>().is_some();
    assert!(is_refusal || several, "{newcomer:?}");
    server.promote();
}

async fn primary_comes_back_as_a_standby(url: impl Fn(&PostgresServer) -> String, several: bool) {
    let server = PostgresServer::start(&[]);
    let url = url(&server);
    let build = async || {
        let builder: PostgresLockProviderBuilder =
            PostgresLockProvider::builder().connection_string(url.clone());
        builder.build().await.unwrap()
    };
    let refuse =
        async |here: &PostgresLockProvider| comes_back_as_a_standby(&server, here, several).await;
    waits_go_on(&server, build, refuse).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_54_waits_survive_a_primary_that_comes_back_as_a_standby() {
    primary_comes_back_as_a_standby(PostgresServer::url, false).await;
    let attributes =
        |server: &PostgresServer| format!("{}?target_session_attrs=read-write", server.url());
    primary_comes_back_as_a_standby(attributes, false).await;
}

/// The other host is a standby, or there is nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_54_waits_survive_it_with_several_hosts() {
    let standby = PostgresServer::builder().standby().start();
    let hosts = |server: &PostgresServer, other: u16| {
        let url = server.url();
        let (user, _) = url.split_once('@').unwrap();
        format!("{user}@127.0.0.1:{other},{}/postgres", server.address())
    };
    primary_comes_back_as_a_standby(|server| hosts(server, standby.port()), true).await;
    let attributes = |server: &PostgresServer| {
        format!("{}?target_session_attrs=read-write", hosts(server, standby.port()))
    };
    primary_comes_back_as_a_standby(attributes, true).await;
    primary_comes_back_as_a_standby(|server| hosts(server, 1), true).await;
}

/// Others take all connections, and the provider's are ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_54_waits_survive_a_server_without_free_connections() {
    let server = PostgresServer::start(&[
        ("max_connections", "20"),
        ("superuser_reserved_connections", "3"),
    ]);
    let observer = Observer::of(&server).await;
    observer
        .run("CREATE ROLE app LOGIN PASSWORD 'x'; GRANT CONNECT ON DATABASE postgres TO app")
        .await;
    let url = format!("postgres://app:x@{}/postgres", server.address());
    let build = async || {
        PostgresLockProvider::builder().connection_string(url.clone()).build().await.unwrap()
    };
    let refuse = async |here: &PostgresLockProvider| {
        observer.run("ALTER ROLE app CONNECTION LIMIT 0").await;
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'";
        observer.run(end).await;
        tokio::time::sleep(REFUSES_FOR).await;
        let newcomer = here.try_acquire_lock("newcomer").await.unwrap_err();
        assert!(
            newcomer.is_retryable() && matches!(newcomer, LockError::Backend(_)),
            "{newcomer:?}"
        );
        observer.run("ALTER ROLE app CONNECTION LIMIT -1").await;
    };
    waits_go_on(&server, build, refuse).await;
}

/// It accepts no connections to the database, as during an upgrade.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_54_waits_survive_a_database_that_accepts_no_connections() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    observer.run("CREATE DATABASE locks").await;
    let url = server.url().replace("/postgres", "/locks").replace("//locks", "//postgres");
    let build = async || {
        PostgresLockProvider::builder().connection_string(url.clone()).build().await.unwrap()
    };
    let refuse = async |_: &PostgresLockProvider| {
        observer.run("ALTER DATABASE locks ALLOW_CONNECTIONS false").await;
        observer
            .run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'locks'")
            .await;
        tokio::time::sleep(REFUSES_FOR).await;
        observer.run("ALTER DATABASE locks ALLOW_CONNECTIONS true").await;
    };
    waits_go_on(&server, build, refuse).await;
}

/// Of several hosts, the one that there is becomes read-only for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_54_waits_survive_a_server_that_is_read_only_for_the_moment() {
    let server = PostgresServer::start(&[]);
    let url = format!("{}?target_session_attrs=read-write", server.url());
    let observer = Observer::of(&server).await;
    let build = async || {
        PostgresLockProvider::builder().connection_string(url.clone()).build().await.unwrap()
    };
    let refuse = async |here: &PostgresLockProvider| {
        observer.run("ALTER SYSTEM SET default_transaction_read_only = on").await;
        observer.run("SELECT pg_reload_conf()").await;
        tokio::time::sleep(100 * MS).await;
        observer
            .run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE application_name = 'distributed-lock'",
            )
            .await;
        tokio::time::sleep(REFUSES_FOR).await;
        let newcomer = here.try_acquire_lock("newcomer").await.unwrap_err();
        assert!(newcomer.find_source::<WrongAttributes>().is_some(), "{newcomer:?}");
        assert!(newcomer.is_retryable(), "{newcomer:?}");
        let back = Observer::of(&server).await;
        back.run("SET default_transaction_read_only = off").await;
        back.run("ALTER SYSTEM SET default_transaction_read_only = off").await;
        back.run("SELECT pg_reload_conf()").await;
    };
    waits_go_on(&server, build, refuse).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_54_waits_survive_a_lock_table_that_is_full_for_a_while() {
    let server = PostgresServer::start(&[
        ("max_locks_per_transaction", "10"),
        ("max_connections", "10"),
        ("max_wal_senders", "0"),
        ("autovacuum", "off"),
    ]);
    let observer = Observer::of(&server).await;
    let build = || builder(&server).build();
    let (holder, here) = (build().await.unwrap(), build().await.unwrap());
    let held = holder.acquire_lock("full", None).await.unwrap();
    let waiting = tokio::spawn({
        let here = here.clone();
        async move { here.acquire_lock("full", Some(40 * SECOND)).await }
    });
    observer.until(QUEUED, 1, 5 * SECOND).await;
    let (filler, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    filler.batch_execute("BEGIN; SAVEPOINT s").await.unwrap();
    let mut next = 0_i32;
    while filler.query("SELECT pg_advisory_xact_lock($1)", &[&i64::from(next)]).await.is_ok() {
        next += 1;
        filler.batch_execute("SAVEPOINT s").await.unwrap();
    }
    filler.batch_execute("ROLLBACK TO s").await.unwrap();
    let newcomer = here.try_acquire_lock("newcomer").await.unwrap_err();
    assert!(newcomer.find_source::<LockTableFull>().is_some(), "{newcomer:?}");
    assert!(newcomer.is_retryable(), "{newcomer:?}");
    // The wait has to be made anew, and cannot.
    let queued = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_get_activity(NULL) \
                  WHERE wait_event = 'advisory'";
    drop(observer.try_run(queued).await);
    tokio::time::sleep(2 * SECOND).await;
    filler.batch_execute("ROLLBACK").await.unwrap();
    held.release().await.unwrap();
    waiting.await.unwrap().unwrap().release().await.unwrap();
}
