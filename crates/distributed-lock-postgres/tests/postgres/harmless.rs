//! What a wait must not do to others: index builds, vacuum, the server's log, other names.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_postgres::{PostgresLockProvider, PostgresLockProviderBuilder};
use distributed_lock_testkit::proxy::{FaultProxy, Way};
use distributed_lock_testkit::servers::{Pgbouncer, PoolMode, PostgresServer};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::observer::{Observer, QUEUED};
use crate::{MS, SECOND, builder};

/// The longest that an index build waits for waits.
const BUILD_WITHIN: Duration = Duration::from_secs(6);

/// Waits of three processes for a mutex, a write lock, a read lock and a permit.
struct Waits {
    waiting: JoinSet<LockResult<()>>,
    providers: Vec<PostgresLockProvider>,
}

impl Waits {
    async fn begin(build: impl Fn() -> PostgresLockProviderBuilder) -> Self {
        let (mut waiting, mut providers) = (JoinSet::new(), Vec::new());
        for _ in 0..3 {
            let provider = build().build().await.unwrap();
            providers.push(provider.clone());
            let mutex = provider.create_lock("mutex");
            let lock = provider.create_reader_writer_lock("lock");
            let write = provider.create_reader_writer_lock("written");
            let semaphore = provider.create_semaphore("permits", 1);
            let limit = Some(120 * SECOND);
            waiting.spawn(async move { mutex.acquire(limit).await?.release().await });
            waiting.spawn(async move { lock.acquire_read(limit).await?.release().await });
            waiting.spawn(async move { write.acquire_write(limit).await?.release().await });
            waiting.spawn(async move { semaphore.acquire(limit).await?.release().await });
        }
        Self { waiting, providers }
    }

    async fn all_get_it(mut self) {
        while let Some(ended) = self.waiting.join_next().await {
            ended.unwrap().unwrap();
        }
        drop(self.providers);
    }
}

/// Index builds end while others wait for locks of their process, in each mode.
async fn index_builds_end(
    server: &PostgresServer,
    build: impl Fn() -> PostgresLockProviderBuilder,
) {
    let observer = Observer::of(server).await;
    observer
        .run("CREATE TABLE built (x int); INSERT INTO built SELECT generate_series(1, 100)")
        .await;
    let holder = build().build().await.unwrap();
    let mutex = holder.acquire_lock("mutex", None).await.unwrap();
    let lock = holder.create_reader_writer_lock("lock").acquire_write(None).await.unwrap();
    let written = holder.create_reader_writer_lock("written").acquire_read(None).await.unwrap();
    let permit = holder.create_semaphore("permits", 1).acquire(None).await.unwrap();
    let waits = Waits::begin(build).await;
    let blocked = "SELECT (count(*) >= 11)::int4::int8 FROM pg_locks WHERE NOT granted";
    observer.until(blocked, 1, 10 * SECOND).await;
    for statement in
        ["CREATE INDEX CONCURRENTLY new ON built (x)", "REINDEX TABLE CONCURRENTLY built"]
    {
        let began = Instant::now();
        observer.run(statement).await;
        let took = began.elapsed();
        println!("{statement}: {took:?}");
        assert!(took <= BUILD_WITHIN, "{statement}: {took:?}");
    }
    mutex.release().await.unwrap();
    lock.release().await.unwrap();
    written.release().await.unwrap();
    permit.release().await.unwrap();
    waits.all_get_it().await;
}

fn through(url: &str) -> PostgresLockProviderBuilder {
    PostgresLockProvider::builder().connection_string(url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_55_index_builds_end_while_sessions_wait() {
    let server = PostgresServer::start(&[]);
    index_builds_end(&server, || builder(&server)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_55_index_builds_end_while_transactions_wait() {
    let server = PostgresServer::start(&[]);
    index_builds_end(&server, || builder(&server).use_transaction(true)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_55_index_builds_end_through_poolers() {
    for (mode, use_transaction) in [(PoolMode::Session, false), (PoolMode::Transaction, true)] {
        let server = PostgresServer::start(&[]);
        let pooler = Pgbouncer::start_with(&server, mode, &[("default_pool_size", "80")]);
        let url = pooler.url();
        index_builds_end(&server, || through(&url).use_transaction(use_transaction)).await;
    }
}

/// Where nothing says that an index is being built, and looks are rarer than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_55_index_builds_end_with_rare_keepalives_and_without_statistics() {
    let server = PostgresServer::start(&[("track_activities", "off")]);
    index_builds_end(&server, || builder(&server).keepalive_cadence(60 * SECOND)).await;
}

/// For how long a session has pinned the horizon, in milliseconds.
const PINNED: &str = "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - query_start) * 1000), 0)::int8 \
     FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() \
     AND application_name = 'distributed-lock'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_56_a_long_wait_pins_the_vacuum_horizon_for_a_minute_at_most() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    let holder = builder(&server).build().await.unwrap();
    let mutex = holder.acquire_lock("mutex", None).await.unwrap();
    let lock = holder.create_reader_writer_lock("lock").acquire_write(None).await.unwrap();
    let written = holder.create_reader_writer_lock("written").acquire_read(None).await.unwrap();
    let permit = holder.create_semaphore("permits", 1).acquire(None).await.unwrap();
    let sessions = Waits::begin(|| builder(&server)).await;
    let transactions = Waits::begin(|| builder(&server).use_transaction(true)).await;
    let began = Instant::now();
    let mut longest = 0;
    while began.elapsed() < 66 * SECOND {
        longest = longest.max(observer.number(PINNED).await);
        tokio::time::sleep(200 * MS).await;
    }
    println!("pinned for {longest} ms at most");
    assert!((10_000..=60_000).contains(&longest), "{longest} ms");
    mutex.release().await.unwrap();
    lock.release().await.unwrap();
    written.release().await.unwrap();
    permit.release().await.unwrap();
    sessions.all_get_it().await;
    transactions.all_get_it().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_56_waits_do_not_flood_a_log_of_lock_waits() {
    let server = PostgresServer::start(&[("log_lock_waits", "on"), ("deadlock_timeout", "100ms")]);
    for use_transaction in [false, true] {
        let build = || builder(&server).use_transaction(use_transaction).build();
        let (holder, other) = (build().await.unwrap(), build().await.unwrap());
        let held = holder.acquire_lock("logged", None).await.unwrap();
        let before = server.log().matches("still waiting").count();
        let waited = other.acquire_lock("logged", Some(5 * SECOND)).await;
        assert!(matches!(waited, Err(LockError::Timeout(_))), "{waited:?}");
        let logged = server.log().matches("still waiting").count() - before;
        assert_eq!(logged, 1, "as many as a wait by psql");
        held.release().await.unwrap();
    }
}

/// A provider waits for other names that stay held with all sessions that may wait.
async fn starved(modes: PostgresLockProviderBuilder, server: &PostgresServer, others: usize) {
    let holder = builder(server).build().await.unwrap();
    let waiter = modes.build().await.unwrap();
    let (mut held, mut waiting) = (Vec::new(), JoinSet::new());
    for number in 0..others {
        let name = format!("held {number}");
        held.push(holder.acquire_lock(&name, None).await.unwrap());
        let waiter = waiter.clone();
        waiting.spawn(async move { waiter.acquire_lock(&name, Some(60 * SECOND)).await });
    }
    tokio::time::sleep(500 * MS).await;
    let acquired = Arc::new(AtomicUsize::new(0));
    let mut passing = JoinSet::new();
    for _ in 0..3 {
        let (provider, acquired) = (builder(server).build().await.unwrap(), Arc::clone(&acquired));
        passing.spawn(async move {
            loop {
                let handle = provider.acquire_lock("passed around", None).await.unwrap();
                tokio::time::sleep(5 * MS).await;
                handle.release().await.unwrap();
                acquired.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tokio::time::sleep(200 * MS).await;
    for _ in 0..2 {
        let began = Instant::now();
        let ninth = waiter.acquire_lock("passed around", Some(12 * SECOND)).await.unwrap();
        println!(
            "after {:?}, passed over {} times",
            began.elapsed(),
            acquired.load(Ordering::Relaxed)
        );
        ninth.release().await.unwrap();
    }
    passing.shutdown().await;
    for handle in held {
        handle.release().await.unwrap();
    }
    while let Some(ended) = waiting.join_next().await {
        ended.unwrap().unwrap().release().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_58_the_ninth_name_is_acquired() {
    let server = PostgresServer::start(&[]);
    starved(builder(&server), &server, 8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_58_a_name_is_acquired_among_many_more_than_sessions() {
    let server = PostgresServer::start(&[]);
    starved(builder(&server).max_waiting_sessions(1), &server, 3).await;
    starved(builder(&server).max_waiting_sessions(2).use_transaction(true), &server, 4).await;
}

/// One session may wait, and a connection for it takes longer than the fallback period: the wait whose
/// turn it is gets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_58_a_slow_connection_does_not_cost_a_wait_its_turn() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    let proxy = FaultProxy::start(server.address());
    let holder = builder(&server).build().await.unwrap();
    let waiter = through(&server.url_by(proxy.port()))
        .max_waiting_sessions(1)
        .operation_timeout(30 * SECOND)
        .build()
        .await
        .unwrap();
    let first = holder.acquire_lock("first", None).await.unwrap();
    let key = "(classid::int8 << 32) + objid::int8";
    let query = format!("SELECT {key} FROM pg_locks WHERE locktype = 'advisory' AND granted");
    let key_of_first = observer.number(&query).await;
    // Its session is in use, so the waits need others.
    let own = waiter.acquire_lock("own", None).await.unwrap();
    let second = holder.acquire_lock("second", None).await.unwrap();
    // A connection is six round trips.
    for way in [Way::ToServer, Way::ToClient] {
        proxy.delay(way, 125 * MS, Duration::ZERO);
    }
    let mut waiting = Vec::new();
    for name in ["first", "second"] {
        let waiter = waiter.clone();
        waiting
            .push(tokio::spawn(async move { waiter.acquire_lock(name, Some(60 * SECOND)).await }));
        tokio::time::sleep(100 * MS).await;
    }
    observer.until(QUEUED, 1, 60 * SECOND).await;
    let queued = format!("{QUEUED} AND {key} = {key_of_first}");
    assert_eq!(observer.number(&queued).await, 1, "the wait whose turn it was comes first");
    proxy.heal();
    own.release().await.unwrap();
    for (held, waiting) in [first, second].into_iter().zip(waiting) {
        held.release().await.unwrap();
        waiting.await.unwrap().unwrap().release().await.unwrap();
    }
}

/// A login role that becomes another, which may neither signal its sessions nor see what they do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_57_a_login_role_that_becomes_another_waits_as_always() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    observer
        .run("CREATE ROLE o; CREATE ROLE a LOGIN PASSWORD 'x' IN ROLE o; ALTER ROLE a SET role = o")
        .await;
    let url = format!("postgres://a:x@{}/postgres", server.address());
    let became = Observer::by(&url).await.number("SELECT count(*) WHERE current_user = 'o'").await;
    assert_eq!(became, 1);
    for use_transaction in [false, true] {
        let build =
            || through(&url).use_transaction(use_transaction).keepalive_cadence(SECOND).build();
        let (one, other) = (build().await.unwrap(), build().await.unwrap());
        let held = one.acquire_lock("role", None).await.unwrap();
        let began = Instant::now();
        let timed_out = other.acquire_lock("role", Some(SECOND)).await;
        assert!(matches!(timed_out, Err(LockError::Timeout(_))), "{timed_out:?}");
        let took = began.elapsed();
        assert!(took < 2 * SECOND, "{took:?}");
        let waiting = tokio::spawn({
            let other = other.clone();
            async move { other.acquire_lock("role", Some(30 * SECOND)).await }
        });
        tokio::time::sleep(5 * SECOND).await;
        held.release().await.unwrap();
        let granted = tokio::time::timeout(2 * SECOND, waiting).await.unwrap().unwrap().unwrap();
        granted.release().await.unwrap();
        let queued = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
        observer.until(queued, 0, 2 * SECOND).await;
    }
}
