//! Votes that could not be taken back at once, and counters of tokens beyond what a script can count.

use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_redis::RedisLockProvider;
use distributed_lock_testkit::proxy::{FaultProxy, Way};
use distributed_lock_testkit::servers::RedisServer;
use tokio::time::{Instant, sleep};

use crate::group::{self, Group};
use crate::{MS, SECOND, held, order};

const LEASE: Duration = Duration::from_secs(30);

/// Longer than a release goes on asking a server that does not answer.
const GIVEN_UP: Duration = Duration::from_millis(1_800);

fn exists(server: &RedisServer, name: &str) -> bool {
    server.cli(&["EXISTS", &format!("distributed-lock:{name}")]) == "1"
}

/// A provider that reaches the server of this number through a proxy.
async fn through_a_proxy(group: &Group, number: usize) -> (FaultProxy, RedisLockProvider) {
    let proxy = FaultProxy::start(group.0[number].address());
    let mut urls: Vec<_> = group.0.iter().map(RedisServer::url).collect();
    urls[number] = group.0[number].url_by(proxy.port());
    let provider = group::of(&urls).expiry(LEASE).build().await.unwrap();
    (proxy, provider)
}

/// Holds a name on the server of this number, too.
async fn held_there(
    provider: &RedisLockProvider,
    server: &RedisServer,
    name: &str,
) -> distributed_lock_redis::RedisLockHandle {
    let began = Instant::now();
    loop {
        let handle = held(provider, name).await;
        // A server that is slower than the majority may be asked a moment later.
        sleep(50 * MS).await;
        if exists(server, name) {
            return handle;
        }
        handle.release().await.unwrap();
        assert!(began.elapsed() < 10 * SECOND, "{name} is never held there");
    }
}

async fn until_gone(server: &RedisServer, name: &str, limit: Duration) {
    let began = Instant::now();
    while exists(server, name) {
        assert!(began.elapsed() < limit, "{name} is left after {limit:?}");
        sleep(20 * MS).await;
    }
    println!("{name}: gone after {:?}", began.elapsed());
}

/// One server is away for long, so the pauses between visits have grown. Another misses a release.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_49_a_vote_left_beside_an_old_outage_is_undone_soon() {
    let group = Group::start(5);
    let (proxy, here) = through_a_proxy(&group, 3).await;
    let before = held(&here, "before").await;
    group.0[4].pause();
    before.release().await.unwrap();
    sleep(9 * SECOND).await;
    for number in 0..4 {
        let name = format!("beside {number}");
        let handle = held_there(&here, &group.0[3], &name).await;
        proxy.black_hole(Way::ToServer);
        handle.release().await.unwrap();
        sleep(GIVEN_UP).await;
        assert!(exists(&group.0[3], &name), "the release has arrived");
        proxy.heal();
        until_gone(&group.0[3], &name, 2 * SECOND).await;
    }
    group.0[4].resume();
}

/// Some votes cannot be taken back, because the user may not use their keys any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_49_an_undo_that_is_refused_delays_no_other() {
    let group = Group::start(3);
    let (proxy, here) = through_a_proxy(&group, 2).await;
    let server = &group.0[2];
    let names: Vec<_> = (0..8).map(|number| format!("undo {number}")).collect();
    let mut handles = Vec::new();
    for name in &names {
        handles.push(held_there(&here, server, name).await);
    }
    proxy.black_hole(Way::ToServer);
    for handle in handles {
        handle.release().await.unwrap();
    }
    sleep(GIVEN_UP).await;
    let allowed = ["~distributed-lock:undo?[4-7]", "~distributed-lock/1:*"];
    order(server, &[&["ACL", "SETUSER", "default", "resetkeys"], &allowed[..]].concat());
    proxy.heal();
    for name in &names[4..] {
        until_gone(server, name, 6 * SECOND).await;
    }
    order(server, &["ACL", "SETUSER", "default", "allkeys"]);
    assert!(names[..4].iter().all(|name| exists(server, name)), "they were not refused");
}

/// A script's numbers are exact up to 2^53; a counter may stand beyond, after another program or a
/// clock has set it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_beyond_2_to_the_53_increase_on_a_majority() {
    const EXACT: u64 = 1 << 53;
    let group = Group::start(3);
    let here = group.leased(LEASE).await;
    let first = held(&here, "counted").await;
    first.fencing_token().await.unwrap();
    first.release().await.unwrap();
    let counter = "distributed-lock/1:{distributed-lock:counted}:counter:*";
    let counter = group.0[0].cli(&["KEYS", counter]);
    order(&group.0[0], &["SET", &counter, &format!("{EXACT} 0a")]);
    let mut last = 0;
    let mut draw = async || {
        let handle = held(&here, "counted").await;
        let token = handle.fencing_token().await.unwrap().0;
        handle.release().await.unwrap();
        assert!(token > last, "{token} after {last}");
        last = token;
        token
    };
    // Of four numbers from there on, a script rounds the second down to the first.
    loop {
        let token = draw().await;
        if token > EXACT && token % 4 == 1 {
            break;
        }
    }
    // The others were raised to the last token, and go on from it.
    group.0[0].pause();
    for _ in 0..3 {
        draw().await;
    }
    group.0[0].resume();
}

/// The replies to the first requests are lost with their links.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_is_repeated_on_new_links_has_released() {
    let group = Group::start(3);
    let proxies: Vec<_> =
        group.0.iter().map(|server| FaultProxy::start(server.address())).collect();
    let urls = group.0.iter().zip(&proxies).map(|(server, proxy)| server.url_by(proxy.port()));
    let here = group::of(&urls.collect::<Vec<_>>()).expiry(LEASE).build().await.unwrap();
    // Each server gets to know the scripts.
    held(&here, "repeated").await.release().await.unwrap();
    sleep(50 * MS).await;
    for number in 0..5 {
        let name = format!("repeated {number}");
        let handle = held(&here, &name).await;
        sleep(50 * MS).await;
        proxies.iter().for_each(|proxy| proxy.stall(Way::ToClient));
        let release = tokio::spawn(handle.release());
        for server in &group.0 {
            until_gone(server, &name, SECOND).await;
        }
        for proxy in &proxies {
            proxy.reset_all();
            proxy.heal();
        }
        release.await.unwrap().unwrap();
    }
}
