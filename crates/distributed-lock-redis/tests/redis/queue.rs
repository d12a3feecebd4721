//! Waiting: in order, pushed, and not held up by the dead.

use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_redis::RedisLockProvider;
use distributed_lock_testkit::proxy::FaultProxy;
use distributed_lock_testkit::servers::RedisServer;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::worker::{Worker, say, told};
use crate::{MS, SECOND, held, leased, order, provider, timed};

/// Waits until so many places of all queues are taken.
pub(crate) async fn until_waiting(server: &RedisServer, places: u32) {
    let taken = || -> u32 {
        let queues = server.cli(&["KEYS", "distributed-lock/1:*queue:*"]);
        let queues = queues.lines().filter(|queue| !queue.is_empty());
        queues.map(|queue| server.cli(&["ZCARD", queue]).parse::<u32>().unwrap()).sum()
    };
    let began = tokio::time::Instant::now();
    while taken() != places {
        assert!(began.elapsed() < 10 * SECOND, "{} places taken, not {places}", taken());
        tokio::time::sleep(5 * MS).await;
    }
}

/// Waits for the mutex of each name that it is told, says that it has it, and gives it back when told.
pub(crate) fn wait(runtime: &Runtime, url: &str) {
    runtime.block_on(async {
        let provider = leased(url, 30 * SECOND).await;
        while let Some(name) = tokio::task::spawn_blocking(told).await.unwrap() {
            let handle = provider.acquire_lock(&name, None).await.unwrap();
            say("held");
            tokio::task::spawn_blocking(told).await.unwrap();
            handle.release().await.unwrap();
        }
    });
}

/// Twenty processes wait, fifty times: the order of places is the order of grants, and each hand-over
/// takes at most four requests: try, enqueue, confirm, release.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_processes_are_served_in_order_with_four_requests_each() {
    const PROCESSES: u32 = 20;
    const ROUNDS: u32 = 50;
    let server = RedisServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    let url = server.url_by(proxy.port());
    let mut workers: Vec<_> = (0..PROCESSES).map(|_| Worker::start("waiter", &url)).collect();
    let holder = provider(&server.url()).await;
    let mut requests = 0;
    for round in 0..=ROUNDS {
        let first = held(&holder, "order").await;
        let began = (proxy.requests(), tokio::time::Instant::now());
        // Another order in each round.
        let order: Vec<usize> =
            (0..workers.len()).map(|n| (n * 7 + round as usize) % workers.len()).collect();
        for (waiting, worker) in (1..).zip(&order) {
            workers[*worker].tell("order");
            until_waiting(&server, waiting).await;
        }
        first.release().await.unwrap();
        for worker in &order {
            assert_eq!(workers[*worker].hears(), "held");
            workers[*worker].tell("release");
        }
        // The last release, and no tick: all of it in less than a fallback period each.
        drop(held_soon(&holder).await);
        let ticks = u64::from(PROCESSES) * began.1.elapsed().as_secs();
        let sent = proxy.requests() - began.0;
        // Subscribing comes once.
        if round > 0 {
            requests += sent.saturating_sub(ticks);
        }
    }
    let each = f64::from(u32::try_from(requests).unwrap()) / f64::from(PROCESSES * ROUNDS);
    println!("{each:.2} requests for each hand-over among {PROCESSES} processes");
    assert!(each <= 4.0, "{each}");
}

async fn held_soon(holder: &RedisLockProvider) -> impl LockHandle {
    holder.acquire_lock("order", Some(5 * SECOND)).await.unwrap()
}

/// A hundred tasks of one process that wait for one name cost what one costs: a tick a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_waiting_tasks_ask_once_a_second() {
    let server = RedisServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    let holder = leased(&server.url(), 30 * SECOND).await;
    let handle = held(&holder, "hundred").await;
    let here = leased(&server.url_by(proxy.port()), 30 * SECOND).await;
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let here = here.clone();
        tasks.spawn(
            async move { here.acquire_lock("hundred", None).await.unwrap().release().await },
        );
    }
    until_waiting(&server, 1).await;
    tokio::time::sleep(SECOND).await;
    let before = proxy.requests();
    tokio::time::sleep(10 * SECOND).await;
    let requests = proxy.requests() - before;
    println!("100 waiting tasks: {requests} requests in 10 s");
    assert!((5..=11).contains(&requests), "{requests}");
    handle.release().await.unwrap();
    while let Some(released) = tasks.join_next().await {
        released.unwrap().unwrap();
    }
}

/// Tasks of one process that give up together share the answers of a few requests. One after another they
/// would have no time, and those that got no answer would report `Connection`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_tasks_with_one_deadline_all_time_out() {
    const TASKS: usize = 10_000;
    let server = RedisServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    let holder = leased(&server.url(), 30 * SECOND).await;
    // So that the number of requests decides, and not how busy the machine is.
    let here = RedisLockProvider::builder().add_server(server.url_by(proxy.port()));
    let here = here.operation_timeout(10 * SECOND).build().await.unwrap();
    for (names, wait) in [(1, 50 * MS), (1, 500 * MS), (100, 500 * MS)] {
        let name = |number: usize| format!("{names} with {wait:?}: {}", number % names);
        let mut handles = Vec::new();
        for number in 0..names {
            handles.push(held(&holder, &name(number)).await);
        }
        let before = proxy.requests();
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let lock = here.create_lock(&name(task));
            tasks.spawn(async move { lock.acquire(Some(wait)).await.map(drop) });
        }
        while let Some(ended) = tasks.join_next().await {
            let ended = ended.unwrap();
            assert!(matches!(ended, Err(LockError::Timeout(_))), "{ended:?}");
        }
        let requests = proxy.requests() - before;
        println!("{TASKS} tasks, {names} names, {wait:?}: {requests} requests");
        assert!(requests <= 2_500, "{requests} requests for {names} names");
        for handle in handles {
            handle.release().await.unwrap();
        }
    }
}

/// Somebody who may not publish releases: no message comes, the fallback finds out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_25_a_lost_message_costs_one_fallback_period() {
    let server = RedisServer::start(&[]);
    order(&server, &["ACL", "SETUSER", "mute", "on", ">x", "~*", "&*", "+@all", "-publish"]);
    let mute = provider(&server.url().replace("redis://", "redis://mute:x@")).await;
    let there = leased(&server.url(), 30 * SECOND).await;
    for _ in 0..3 {
        let handle = held(&mute, "mute").await;
        let other = there.clone();
        let waiter = tokio::spawn(async move { other.acquire_lock("mute", None).await });
        until_waiting(&server, 1).await;
        handle.release().await.unwrap();
        let (next, took) = timed(waiter).await;
        println!("without a message after {took:?}");
        assert!(took <= SECOND + 500 * MS, "{took:?}");
        next.unwrap().unwrap().release().await.unwrap();
    }
}

/// Five stopped waiters are ahead in the queue, and a monitor hears everything that is published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_26_the_stopped_and_the_dead_hold_up_the_others_no_longer_than_promised() {
    let server = RedisServer::start(&[]);
    let mut monitor = std::process::Command::new("redis-cli")
        .args(["-p", &server.port().to_string(), "PSUBSCRIBE", "*"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let holder = leased(&server.url(), 30 * SECOND).await;
    for fault in ["stopped long ago", "stopped while it is handed over", "killed"] {
        let handle = held(&holder, "queue").await;
        let mut workers: Vec<_> = (0..5).map(|_| Worker::start("waiter", &server.url())).collect();
        for (waiting, worker) in (1..).zip(&mut workers) {
            worker.tell("queue");
            until_waiting(&server, waiting).await;
        }
        let other = leased(&server.url(), 30 * SECOND).await;
        let waiter = tokio::spawn(async move { other.acquire_lock("queue", None).await });
        until_waiting(&server, 6).await;
        let bound = match fault {
            "killed" => {
                workers.iter_mut().for_each(Worker::kill);
                SECOND
            }
            "stopped long ago" => {
                workers.iter().for_each(Worker::stop);
                tokio::time::sleep(3500 * MS).await;
                SECOND
            }
            _ => {
                workers.iter().for_each(Worker::stop);
                // Three fallback periods of a second each, and at worst three seconds more.
                6 * SECOND
            }
        };
        handle.release().await.unwrap();
        let (next, took) = timed(waiter).await;
        println!("five waiters {fault}: the sixth had it after {took:?}");
        assert!(took <= bound + 500 * MS, "five waiters {fault}: {took:?}");
        next.unwrap().unwrap().release().await.unwrap();
        drop(workers);
        // Their places end with them.
        let (again, took) = timed(holder.acquire_lock("queue", None)).await;
        assert!(took <= 7 * SECOND, "{took:?}");
        again.unwrap().release().await.unwrap();
    }
    monitor.kill().unwrap();
    monitor.wait().unwrap();
}

/// A dead writer at the head of the queue does not keep readers out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_writer_in_the_queue_does_not_keep_readers_out() {
    let server = RedisServer::start(&[]);
    let here = leased(&server.url(), 30 * SECOND).await;
    let readers = here.create_reader_writer_lock("readers");
    let reader = readers.acquire_read(None).await.unwrap();
    let mut writer = Worker::start("waiter", &server.url());
    writer.tell("readers");
    until_waiting(&server, 1).await;
    assert!(readers.try_acquire_read().await.unwrap().is_none(), "behind the writer");
    writer.kill();
    let (next, took) = timed(readers.acquire_read(Some(5 * SECOND))).await;
    assert!(took <= 4 * Duration::from_secs(1), "{took:?}");
    next.unwrap().release().await.unwrap();
    reader.release().await.unwrap();
}
