//! Waiters for a permit that do not run, and strangers in their queue.

use std::process::Command as Program;
use std::time::Duration;

use distributed_lock_core::driver::Driver;
use distributed_lock_core::prelude::*;
use distributed_lock_core::{DynLockProvider, LockName, Mode};
use distributed_lock_postgres::{PostgresDistributedSemaphore, PostgresLockProvider};
use distributed_lock_testkit::bounds::SLACK;
use distributed_lock_testkit::nemesis::Crew;
use distributed_lock_testkit::servers::{Pgbouncer, PoolMode, PostgresServer};
use distributed_lock_testkit::worker::{self, Command, Primitive};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::observer::{HELD, Observer, QUEUED};
use crate::{MS, SECOND, builder};

/// Makes this test program a worker; the value says whether it uses transactions.
const ROLE: &str = "DISTRIBUTED_LOCK_TEST_STOPPED";

const PERMITS: u32 = 5;
const OTHERS: u32 = 4;

/// Three fallback periods and 3 s.
const PASSED_WITHIN: Duration = Duration::from_secs(6);

/// Where a worker starts. Run as a test, it has nothing to do.
#[test]
fn entry() {
    let Ok(role) = std::env::var(ROLE) else { return };
    worker::run(async |url: &str| {
        let builder = PostgresLockProvider::builder().connection_string(url);
        Ok(DynLockProvider::new(builder.use_transaction(role == "transaction").build().await?))
    });
}

fn by_sessions() -> Program {
    worker_program("session")
}

fn by_transactions() -> Program {
    worker_program("transaction")
}

fn worker_program(role: &str) -> Program {
    let mut program = Program::new(std::env::current_exe().unwrap());
    program.args(["--exact", "stopped_waiters::entry", "--nocapture"]).env(ROLE, role);
    program
}

/// Providers that wait for permits, each one more process.
async fn others(
    server: &PostgresServer,
    url: &str,
    use_transaction: bool,
    observer: &Observer,
) -> JoinSet<(PostgresLockProvider, Instant)> {
    let mut waiting = JoinSet::new();
    let before = observer.number(QUEUED).await;
    for number in 1..=OTHERS {
        let other = builder(server).connection_string(url).use_transaction(use_transaction);
        let other = other.build().await.unwrap();
        let permits = other.create_semaphore("name", PERMITS);
        waiting.spawn(async move {
            let permit = permits.acquire(Some(20 * SECOND)).await.unwrap();
            let granted = Instant::now();
            // So that each of them needs a permit of its own.
            tokio::time::sleep(10 * SECOND).await;
            permit.release().await.unwrap();
            (other, granted)
        });
        observer.until(QUEUED, before + i64::from(number), 5 * SECOND).await;
    }
    waiting
}

async fn all_permits(permits: &PostgresDistributedSemaphore) -> Vec<impl LockHandle + use<>> {
    let mut held = Vec::new();
    for _ in 0..PERMITS {
        held.push(permits.acquire(None).await.unwrap());
    }
    held
}

/// Gives the permits back; the others must have one each in time.
async fn assert_all_get_one<H: LockHandle>(
    held: Vec<H>,
    mut waiting: JoinSet<(PostgresLockProvider, Instant)>,
    what: &str,
) {
    for held in held {
        held.release().await.unwrap();
    }
    let released = Instant::now();
    let mut latest = Duration::ZERO;
    while let Some(ended) = waiting.join_next().await {
        let (_, granted) = ended.unwrap();
        latest = latest.max(granted - released);
    }
    println!("{what}: the last of {OTHERS} had a permit after {latest:?}");
    assert!(latest <= PASSED_WITHIN + SLACK, "{what}: {latest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_52_a_stopped_waiter_keeps_no_free_permit_from_others() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    for (program, use_transaction) in
        [(by_sessions as fn() -> Program, false), (by_transactions, true)]
    {
        let holder = builder(&server).build().await.unwrap();
        let held = all_permits(&holder.create_semaphore("name", PERMITS)).await;
        let mut crew = Crew::start(program, server.url(), std::env::temp_dir(), 1);
        let lock = "name".into();
        let (primitive, timeout) = (Primitive::Permit(PERMITS), 60 * SECOND);
        crew.tell(0, &Command::Acquire { attempt: 1, primitive, timeout, lock });
        // It has the queue key.
        observer.until(HELD, i64::from(PERMITS) + 1, 10 * SECOND).await;
        tokio::time::sleep(100 * MS).await;
        crew.stop(0);
        let waiting = others(&server, &server.url(), use_transaction, &observer).await;
        let what = format!("use_transaction {use_transaction}");
        assert_all_get_one(held, waiting, &what).await;
        crew.kill(0);
        observer.until(HELD, 0, 10 * SECOND).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_52_a_stranger_with_the_queue_key_keeps_no_free_permit_from_others() {
    let server = PostgresServer::start(&[]);
    let pooler = Pgbouncer::start(&server, PoolMode::Transaction);
    let (observer, stranger) = (Observer::of(&server).await, Observer::of(&server).await);
    let driver = builder(&server).build_driver().await.unwrap();
    let permit = Mode::Permit { max: PERMITS };
    let key = driver.resolve(LockName::parse("name").unwrap(), permit).unwrap().to_string();
    let queue = key.strip_prefix("semaphore ").unwrap();
    for (url, use_transaction) in
        [(server.url(), false), (server.url(), true), (pooler.url(), true)]
    {
        let holder = builder(&server).build().await.unwrap();
        let held = all_permits(&holder.create_semaphore("name", PERMITS)).await;
        stranger.run(&format!("SELECT pg_advisory_lock({queue})")).await;
        let waiting = others(&server, &url, use_transaction, &observer).await;
        let what = format!("a stranger, use_transaction {use_transaction}");
        assert_all_get_one(held, waiting, &what).await;
        stranger.run(&format!("SELECT pg_advisory_unlock({queue})")).await;
        observer.until(HELD, 0, 10 * SECOND).await;
    }
}

/// A head of the queue that runs is not passed, however often the others look.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiters_for_a_permit_that_run_are_served_in_their_order() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    let holder = builder(&server).build().await.unwrap();
    let held = holder.create_semaphore("name", 1).acquire(None).await.unwrap();
    let (order, mut served) = tokio::sync::mpsc::unbounded_channel();
    let mut waiting = JoinSet::new();
    for number in 0..OTHERS {
        let (other, order) = (builder(&server).build().await.unwrap(), order.clone());
        waiting.spawn(async move {
            let permits = other.create_semaphore("name", 1);
            let permit = permits.acquire(Some(60 * SECOND)).await.unwrap();
            order.send(number).unwrap();
            // Several looks of those that still wait.
            tokio::time::sleep(2500 * MS).await;
            permit.release().await.unwrap();
        });
        // The first has the queue key, the others wait for it.
        observer.until(QUEUED, i64::from(number), 5 * SECOND).await;
        observer.until(HELD, 2, 5 * SECOND).await;
    }
    tokio::time::sleep(3 * SECOND).await;
    held.release().await.unwrap();
    while let Some(ended) = waiting.join_next().await {
        ended.unwrap();
    }
    for number in 0..OTHERS {
        assert_eq!(served.recv().await, Some(number));
    }
}
