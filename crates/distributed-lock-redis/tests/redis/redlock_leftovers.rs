//! What is left on several servers.

use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_testkit::servers::RedisServer;
use tokio::time::{Instant, sleep};

use crate::group::{self, Group};
use crate::late_links::LateLinks;
use crate::{MS, SECOND, order};

const LEASE: Duration = Duration::from_secs(30);

/// As many entries as there may be before the last one causes a look at all of them, but for a few.
const STALE: usize = 28;

/// Attempts that leave a tombstone each.
const ATTEMPTS: usize = 12;

fn waiters(server: &RedisServer) -> String {
    server.cli(&["KEYS", "*:quorum-waiters:*"])
}

/// A try leaves on links that are closed, is repeated on others and refused there: its first requests may
/// still arrive, so it leaves a tombstone.
async fn leave_a_tombstone(group: &Group, name: &str) {
    let mut links = Vec::new();
    for server in &group.0 {
        links.push(LateLinks::start(server).await);
    }
    let ways = group.0.iter().zip(&links);
    let urls: Vec<_> = ways.map(|(server, links)| server.url_by(links.port())).collect();
    let here = group::of(&urls).expiry(LEASE).build().await.unwrap();
    links.iter().for_each(LateLinks::hold);
    let closing = async {
        for links in &links {
            links.holds(name.as_bytes()).await;
        }
        links.iter().map(LateLinks::close).collect::<Vec<_>>()
    };
    let (refused, late) = tokio::join!(here.try_acquire_lock(name), closing);
    assert!(refused.unwrap().is_none());
    here.shutdown().await;
    drop(late);
}

/// A name that is always held or waited for keeps the key, which would else end with its last tombstone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tombstones_of_a_contended_name_are_removed_on_several_servers() {
    let group = Group::start(3);
    let here = group.leased(LEASE).await;
    let key = here.native_key("contended").unwrap();
    for server in &group.0 {
        order(server, &["SET", &key, "of another program", "PX", "600000"]);
    }
    let waiting = tokio::spawn({
        let here = here.clone();
        async move { here.acquire_lock("contended", None).await.map(drop) }
    });
    let began = Instant::now();
    while group.0.iter().any(|server| waiters(server).is_empty()) {
        assert!(began.elapsed() < 10 * SECOND, "it does not wait");
        sleep(10 * MS).await;
    }
    let counts = || group.0.iter().map(|it| it.cli(&["HLEN", &waiters(it)])).collect::<Vec<_>>();
    for server in &group.0 {
        for number in 0..STALE {
            let token = format!("{number:032x}");
            // It has ended long ago.
            order(server, &["HSET", &waiters(server), &token, "1700000000000"]);
        }
        order(server, &["PEXPIRE", &waiters(server), "960000"]);
    }
    let mut attempts = 0;
    let is_pruned = |count: &String| count.parse::<usize>().unwrap() < STALE;
    while !counts().iter().all(is_pruned) {
        assert!(attempts < ATTEMPTS, "after {attempts}: {:?} entries", counts());
        leave_a_tombstone(&group, "contended").await;
        attempts += 1;
    }
    println!("after {attempts}: {:?} entries", counts());
    for server in &group.0 {
        // The new tombstones and the waiter are there.
        let entries = server.cli(&["HVALS", &waiters(server)]);
        assert!(entries.lines().any(|entry| entry.contains(" x 1 ")), "{entries}");
        assert!(entries.lines().any(|entry| !entry.contains(' ')), "{entries}");
        assert!(!entries.contains("1700000000000"), "{entries}");
    }
    waiting.abort();
}
