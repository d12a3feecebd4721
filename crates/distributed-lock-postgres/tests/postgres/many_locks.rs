//! Very many locks of one process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use distributed_lock_core::prelude::*;
use distributed_lock_testkit::servers::PostgresServer;
use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::observer::{HELD, Observer, SESSIONS};
use crate::resources::memory;
use crate::worker::{Worker, say};
use crate::{SECOND, builder};

const LOCKS: usize = 10_000;
const LOCKS_COUNTED: i64 = 10_000;
const TASKS: usize = 64;

/// How often the release is timed at most: other tests want the same cores.
const TIMED: usize = 3;

/// Room for what these tests hold, and for everybody else.
fn server() -> PostgresServer {
    PostgresServer::start(&[("max_locks_per_transaction", "256")])
}

/// Memory is the whole process's, so this has a process of its own.
pub(crate) async fn hold(url: &str) {
    let builder = distributed_lock_postgres::PostgresLockProvider::builder();
    // The server looks at all locks of a session at the end of each statement: many releases at
    // once wait for each other.
    let builder = builder.connection_string(url).operation_timeout(5 * SECOND);
    let here = builder.build().await.unwrap();
    // What the first locks need once: sessions, statements, room in tables.
    let names: Vec<_> = (0..LOCKS).map(|number| format!("name {number}")).collect();
    let mut held = Vec::with_capacity(LOCKS);
    for name in &names[..LOCKS / 100] {
        held.push(here.try_acquire_lock(name).await.unwrap().unwrap());
    }
    let (before, few) = (memory(), held.len());
    for name in &names[few..] {
        held.push(here.try_acquire_lock(name).await.unwrap().unwrap());
    }
    let more = memory().saturating_sub(before) / u64::try_from(LOCKS - few).unwrap();
    say(&more.to_string());
    tokio::task::spawn_blocking(crate::worker::told).await.unwrap();
    let began = Instant::now();
    // All at once, each by a task.
    let released: JoinSet<_> = held.into_iter().map(LockHandle::release).collect();
    let released = released.join_all().await;
    let took = began.elapsed();
    assert!(released.into_iter().all(|released| released.is_ok()));
    say(&took.as_millis().to_string());
    tokio::task::spawn_blocking(crate::worker::told).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_held_locks_need_two_connections_and_a_kibibyte_each() {
    let server = server();
    let observer = Observer::of(&server).await;
    let mut fastest = u64::MAX;
    for _ in 0..TIMED {
        let mut holder = Worker::start("many locks", &server.url());
        let each: u64 = holder.hears().parse().unwrap();
        println!("{each} bytes a lock");
        assert!(each <= 1024, "{each} bytes a lock");
        assert_eq!(observer.number(HELD).await, LOCKS_COUNTED);
        let sessions = observer.number(SESSIONS).await;
        assert!(sessions <= 2, "{sessions} sessions");
        holder.tell("release");
        let took: u64 = holder.hears().parse().unwrap();
        println!("released in {took} ms");
        observer.until(HELD, 0, SECOND).await;
        fastest = fastest.min(took);
        if fastest < 3000 {
            return;
        }
        // The next one has the server's sessions for itself.
        drop(holder);
        observer.until(SESSIONS, 0, SECOND).await;
    }
    panic!("released in {fastest} ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_names_are_taken_and_released_by_64_tasks_at_once() {
    let server = server();
    let observer = Observer::of(&server).await;
    let here = builder(&server).build().await.unwrap();
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let tasks = (0..TASKS).map(|_| {
        let (here, next) = (here.clone(), Arc::clone(&next));
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= LOCKS {
                    return;
                }
                let handle = here.try_acquire_lock(&format!("name {number}")).await;
                handle.unwrap().unwrap().release().await.unwrap();
            }
        })
    });
    for task in join_all(tasks).await {
        task.unwrap();
    }
    println!("{LOCKS} names in {:?}", began.elapsed());
    let sessions = observer.number(SESSIONS).await;
    assert!(sessions <= 2, "{sessions} sessions");
    assert_eq!(observer.number(HELD).await, 0);
}
