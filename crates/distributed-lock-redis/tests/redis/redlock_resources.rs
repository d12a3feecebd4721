//! What many locks leave behind on several servers: nothing.

use distributed_lock_core::prelude::*;
use distributed_lock_testkit::proxy::FaultProxy;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::group::{self, Group};
use crate::worker::{Worker, say, told};
use crate::{SECOND, assert_every_key_expires, held};

/// At once, not after their expiries: a release waits for a majority, the others follow.
fn assert_nothing_is_held(group: &Group) {
    let began = Instant::now();
    for server in &group.0 {
        assert_every_key_expires(server);
        for kind in ["distributed-lock:*", "*queue*", "*readers*", "*permit-?:*"] {
            loop {
                let left = server.cli(&["KEYS", kind]);
                if left.is_empty() {
                    break;
                }
                assert!(began.elapsed() < SECOND, "on port {}: {left}", server.port());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_clean_rounds_leave_no_owner_and_no_key_without_expiry() {
    let group = Group::start(5);
    let here = group.leased(SECOND * 30).await;
    let readers = here.create_reader_writer_lock("clean readers");
    let permits = here.create_semaphore("clean permits", 3);
    for round in 0..500 {
        match round % 4 {
            0 => readers.acquire_read(None).await.unwrap().release().await.unwrap(),
            1 => permits.acquire(None).await.unwrap().release().await.unwrap(),
            _ => held(&here, &format!("clean {round}")).await.release().await.unwrap(),
        }
    }
    assert_nothing_is_held(&group);
}

/// Twenty tasks of one process that wait for one name cost what one costs: a tick a second on each
/// server, and a vote taken back there if others have answered before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_waiting_tasks_ask_each_server_at_most_twice_a_second() {
    let group = Group::start(3);
    let handle = held(&group.leased(SECOND * 30).await, "twenty").await;
    let proxies: Vec<_> =
        group.0.iter().map(|server| FaultProxy::start(server.address())).collect();
    let urls = group.0.iter().zip(&proxies).map(|(server, proxy)| server.url_by(proxy.port()));
    let urls: Vec<_> = urls.collect();
    let here = group::of(&urls).expiry(SECOND * 30).build().await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let here = here.clone();
        tasks
            .spawn(async move { here.acquire_lock("twenty", None).await.unwrap().release().await });
    }
    tokio::time::sleep(SECOND * 2).await;
    let before: Vec<_> = proxies.iter().map(FaultProxy::requests).collect();
    tokio::time::sleep(SECOND * 10).await;
    let asked = proxies.iter().zip(before).map(|(proxy, before)| proxy.requests() - before);
    let asked: Vec<_> = asked.collect();
    println!("20 waiting tasks: {asked:?} requests in 10 s");
    assert!(asked.iter().all(|asked| (5..=22).contains(asked)), "{asked:?}");
    handle.release().await.unwrap();
    while let Some(released) = tasks.join_next().await {
        released.unwrap().unwrap();
    }
}

/// As for one server, in fewer rounds; the process has its memory and descriptors to itself.
#[test]
fn row_47_many_locks_on_a_majority_leave_nothing() {
    let group = Group::start(3);
    let mut worker = Worker::start("redlock many locks", &group.urls());
    assert_eq!(worker.hears(), "nothing is left");
    assert_nothing_is_held(&group);
    // Until now, or the releases that have ended with a majority would not reach the others.
    worker.tell("end");
}

pub(crate) fn many_locks(urls: &str) {
    let urls: Vec<_> = urls.split(',').map(str::to_owned).collect();
    crate::resources::use_many((5_000, 500), async || {
        group::of(&urls).expiry(SECOND * 30).build().await.unwrap()
    });
    say("nothing is left");
    told();
}
