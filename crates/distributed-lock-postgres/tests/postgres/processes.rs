//! Processes that are killed or stopped while they hold or wait.

use std::process::Command as Program;
use std::time::Duration;

use distributed_lock_core::DynLockProvider;
use distributed_lock_core::prelude::*;
use distributed_lock_postgres::PostgresLockProvider;
use distributed_lock_testkit::bounds::SLACK;
use distributed_lock_testkit::history::{Event, Rules, What, check};
use distributed_lock_testkit::nemesis::Crew;
use distributed_lock_testkit::servers::PostgresServer;
use distributed_lock_testkit::worker::{self, Command, Primitive, Target};
use tokio::time::Instant;

use crate::observer::{HELD, Observer, QUEUED};
use crate::{MS, SECOND, provider};

/// Makes this test program a worker, whose sessions are asked for a sign of life so often, in
/// milliseconds.
const ROLE: &str = "DISTRIBUTED_LOCK_TEST_WORKER";

/// How soon something happens that has no bound of its own.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a worker starts. Run as a test, it has nothing to do.
#[test]
fn entry() {
    let Ok(cadence) = std::env::var(ROLE) else { return };
    let cadence = Duration::from_millis(cadence.parse().unwrap());
    worker::run(async |url: &str| {
        let builder = PostgresLockProvider::builder().connection_string(url);
        Ok(DynLockProvider::new(builder.keepalive_cadence(cadence).build().await?))
    });
}

fn worker_program(cadence: &str) -> Program {
    let mut program = Program::new(std::env::current_exe().unwrap());
    program.args(["--exact", "processes::entry", "--nocapture"]).env(ROLE, cadence);
    program
}

fn patient() -> Program {
    worker_program("5000")
}

fn impatient() -> Program {
    worker_program("100")
}

fn crew(server: &PostgresServer, program: fn() -> Program, count: usize) -> Crew {
    Crew::start(program, server.url(), std::env::temp_dir(), count)
}

fn ask(crew: &mut Crew, worker: usize, attempt: u64, primitive: Primitive) {
    let (timeout, lock) = (PATIENCE, "name".into());
    crew.tell(worker, &Command::Acquire { attempt, primitive, timeout, lock });
}

/// Waits until an attempt's log has this.
fn hear(crew: &Crew, since: distributed_lock_testkit::nemesis::Mark, attempt: u64, what: &What) {
    let heard = crew.record().wait_for(since, PATIENCE, |event| {
        event.attempt == attempt
            && std::mem::discriminant(&event.what) == std::mem::discriminant(what)
    });
    assert!(heard.is_some(), "{what:?}: {:?}", crew.record().events());
}

/// A worker acquires what is free.
fn take(crew: &mut Crew, worker: usize, attempt: u64, primitive: Primitive) {
    let since = crew.record().mark();
    ask(crew, worker, attempt, primitive);
    hear(crew, since, attempt, &What::Acquired { token: None });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_1_the_next_holder_follows_a_killed_one_within_a_second() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    let here = provider(&server).await;
    for (attempt, primitive) in
        [Primitive::Mutex, Primitive::Read, Primitive::Permit(1)].into_iter().enumerate()
    {
        let mut crew = crew(&server, patient, 1);
        take(&mut crew, 0, u64::try_from(attempt).unwrap() + 1, primitive);
        let waiter = here.clone();
        let waiting = tokio::spawn(async move {
            match primitive {
                Primitive::Permit(max) => {
                    let permits = waiter.create_semaphore("name", max);
                    permits.acquire(None).await.unwrap().release().await.unwrap();
                }
                _ => waiter.acquire_lock("name", None).await.unwrap().release().await.unwrap(),
            }
            Instant::now()
        });
        match primitive {
            // The head of a semaphore's queue holds the queue key, and listens.
            Primitive::Permit(_) => observer.until(HELD, 2, PATIENCE).await,
            _ => observer.until(QUEUED, 1, PATIENCE).await,
        };
        let killed = Instant::now();
        crew.kill(0);
        let took = waiting.await.unwrap() - killed;
        println!("{primitive:?}: {took:?} after the kill");
        // Nobody tells of a dead permit: whoever is at the head looks once in a fallback period.
        let slack = if matches!(primitive, Primitive::Permit(_)) { SLACK } else { Duration::ZERO };
        assert!(took <= SECOND + slack, "{primitive:?}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_3_a_stopped_process_still_holds() {
    let server = PostgresServer::start(&[]);
    let mut crew = crew(&server, impatient, 1);
    let here = provider(&server).await;
    take(&mut crew, 0, 1, Primitive::Mutex);
    // At whatever its keepalive is doing; each stop is longer than the keepalive and its answer.
    for stop in 0..5 {
        crew.stop(0);
        let refused = here.acquire_lock("name", Some(600 * MS + stop * 20 * MS)).await;
        assert!(matches!(refused, Err(LockError::Timeout(_))), "{refused:?}");
        crew.resume(0);
        tokio::time::sleep(130 * MS).await;
    }
    let since = crew.record().mark();
    crew.tell(0, &Command::Release { attempt: 1 });
    hear(&crew, since, 1, &What::Released);
    let lost = crew.record().events().into_iter().find(|event| event.what == What::Lost);
    assert_eq!(lost, None);
    here.acquire_lock("name", Some(SECOND)).await.unwrap().release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_12_a_reader_behind_a_dead_writer_gets_in_within_a_second() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    let (here, there) = (provider(&server).await, provider(&server).await);
    let reader = here.create_reader_writer_lock("name").acquire_read(None).await.unwrap();
    let mut crew = crew(&server, patient, 1);
    ask(&mut crew, 0, 1, Primitive::Write);
    observer.until(QUEUED, 1, PATIENCE).await;
    let lock = there.create_reader_writer_lock("name");
    let behind = tokio::spawn(async move {
        let reader = lock.acquire_read(None).await.unwrap();
        (Instant::now(), reader)
    });
    observer.until(QUEUED, 2, PATIENCE).await;
    let killed = Instant::now();
    crew.kill(0);
    let (granted, behind) = behind.await.unwrap();
    println!("{:?} after the kill", granted - killed);
    assert!(granted - killed <= SECOND, "{:?}", granted - killed);
    assert_eq!(observer.number(QUEUED).await, 0);
    behind.release().await.unwrap();
    reader.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_38_permits_of_killed_processes_return() {
    const PERMITS: u32 = 4;
    let server = PostgresServer::start(&[]);
    let mut crew = crew(&server, patient, 6);
    let here = provider(&server).await;
    let load = Command::Load {
        seed: 38,
        tasks: 2,
        targets: vec![Target::new("name", &[Primitive::Permit(PERMITS)])],
    };
    for worker in 0..crew.size() {
        crew.tell(worker, &load);
    }
    for kill in 0..18 {
        let someone = crew.record().wait_held(PATIENCE, |holds| holds.len() >= 2);
        assert!(someone.is_some(), "nobody holds");
        // Wherever it is: about to acquire, holding, or about to release.
        let victim = crew.record().holds().swap_remove(0).who;
        let worker = crew.number_of(&victim).unwrap_or(kill % crew.size());
        crew.kill(worker);
        crew.tell(worker, &load);
    }
    // Enough of them to say something, however slow the machine is.
    let is_acquired = |event: &Event| matches!(event.what, What::Acquired { .. });
    let acquired = || crew.record().events().iter().filter(|event| is_acquired(event)).count();
    let patience = Instant::now() + PATIENCE;
    while acquired() < 50 {
        assert!(Instant::now() < patience, "{} permits acquired", acquired());
        crew.record().pause(SECOND / 20);
    }
    crew.rest();
    let events = crew.record().events();
    let violations = check(&events, &Rules::default());
    assert!(violations.is_empty(), "{}", violations[0]);

    let semaphore = here.create_semaphore("name", PERMITS);
    let mut held = Vec::new();
    for _ in 0..PERMITS {
        held.push(semaphore.acquire(Some(SECOND)).await.unwrap());
    }
    assert!(semaphore.try_acquire().await.unwrap().is_none(), "never more than all permits");
}
