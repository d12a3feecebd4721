//! Time limits that an administrator has set for all sessions.

use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_testkit::servers::PostgresServer;

use crate::observer::{HELD, Observer, QUEUED};
use crate::{MS, SECOND, builder};

/// Much shorter than what follows takes.
const LIMIT: &str = "200ms";

/// How long locks are held and waited for.
const LONG: Duration = Duration::from_millis(1500);

/// Since when sessions wait for locks, in microseconds, added up: the same only for the same waits.
const WAITING_SINCE: &str = "SELECT sum(extract(epoch FROM query_start) * 1000000)::int8 \
     FROM pg_stat_activity WHERE wait_event_type = 'Lock'";

/// The limits, wherever they can be set.
async fn set_limits(server: &PostgresServer) {
    let observer = Observer::of(server).await;
    let wheres = ["ALTER SYSTEM", "ALTER ROLE postgres", "ALTER DATABASE postgres"];
    let names = [
        "idle_session_timeout",
        "idle_in_transaction_session_timeout",
        "lock_timeout",
        "statement_timeout",
        "transaction_timeout",
    ];
    for name in names {
        let known = format!("SELECT count(*) FROM pg_settings WHERE name = '{name}'");
        if observer.number(&known).await == 0 {
            continue;
        }
        for place in wheres {
            observer.run(&format!("{place} SET {name} = '{LIMIT}'")).await;
        }
    }
    observer.run("SELECT pg_reload_conf()").await;
}

async fn held_and_waited_for(use_transaction: bool) {
    let server = PostgresServer::start(&[]);
    set_limits(&server).await;
    let new = || builder(&server).use_transaction(use_transaction).build();
    let (here, there) = (new().await.unwrap(), new().await.unwrap());
    let idle = here.acquire_lock("idle", None).await.unwrap();
    let held = here.acquire_lock("name", None).await.unwrap();
    let permit = here.create_semaphore("permits", 1).acquire(None).await.unwrap();
    let waiting = tokio::spawn({
        let there = there.clone();
        async move { there.acquire_lock("name", None).await }
    });
    let queued = tokio::spawn({
        let there = there.clone();
        async move { there.create_semaphore("permits", 1).acquire(None).await }
    });
    tokio::time::sleep(100 * MS).await;
    // An observer of its own each time: the limits are for it, too.
    let since = Observer::of(&server).await.number(WAITING_SINCE).await;
    tokio::time::sleep(LONG).await;
    let observer = Observer::of(&server).await;
    assert_eq!(observer.number(WAITING_SINCE).await, since, "the same waits, never interrupted");
    assert!(observer.number(QUEUED).await >= 1);
    assert!(!idle.is_lost() && !held.is_lost() && !permit.is_lost());
    held.release().await.unwrap();
    permit.release().await.unwrap();
    let granted = tokio::time::timeout(SECOND, waiting).await.unwrap().unwrap().unwrap();
    let permit = tokio::time::timeout(2 * SECOND, queued).await.unwrap().unwrap().unwrap();
    for handle in [granted, idle] {
        handle.release().await.unwrap();
    }
    permit.release().await.unwrap();
    Observer::of(&server).await.until(HELD, 0, 100 * MS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_10_an_administrators_time_limits_end_neither_locks_nor_waits() {
    held_and_waited_for(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_10_nor_those_of_locks_in_transactions() {
    held_and_waited_for(true).await;
}
