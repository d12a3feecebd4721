//! Servers of a group that are down, silent or slow.

use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_redis::RedisLockProvider;
use distributed_lock_testkit::outage;
use distributed_lock_testkit::proxy::{FaultProxy, Way};
use distributed_lock_testkit::servers::{ClockShift, RedisServer, Toward};
use tokio::time::{Instant, timeout};

use crate::group::{self, Group};
use crate::{MS, SECOND, assert_every_key_expires, freed, held, is_held, timed, told_of_loss};

const LEASE: Duration = Duration::from_secs(3);

/// What one server may take of the time.
const ONE_SERVER: Duration = Duration::from_millis(375);

/// Acquires, extends by waiting longer than the lease, draws a token, releases.
async fn works(here: &RedisLockProvider, there: &RedisLockProvider, name: &str) {
    let handle = held(here, name).await;
    assert!(is_held(there, name).await);
    handle.fencing_token().await.unwrap();
    tokio::time::sleep(LEASE + SECOND).await;
    assert!(!handle.is_lost());
    handle.release().await.unwrap();
    freed(there, name, SECOND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_27_a_minority_that_is_down_or_hangs_changes_only_latency() {
    for (count, minority, strike) in [
        (3, 1, RedisServer::kill as fn(&RedisServer)),
        (3, 1, RedisServer::pause),
        (5, 2, RedisServer::kill),
        (5, 2, RedisServer::pause),
    ] {
        let group = Group::start(count);
        let (here, there) = (group.leased(LEASE).await, group.leased(LEASE).await);
        let kept = held(&here, "kept").await;
        // A server that was slow when the provider was built may not have been asked at first.
        everywhere(&group, "distributed-lock:kept").await;
        group.0[..minority].iter().for_each(strike);
        // Each process may find out once.
        let (handle, took) = timed(here.acquire_lock("first", None)).await;
        let (released, release_took) = timed(handle.unwrap().release()).await;
        released.unwrap();
        let slower = took + release_took;
        println!("{minority} of {count}: the first acquire and release took {slower:?}");
        assert!(slower <= ONE_SERVER + 500 * MS, "{slower:?}");
        let (fresh, took) = timed(group.leased(LEASE)).await;
        println!("a new provider was built in {took:?}");
        assert!(took <= ONE_SERVER * 2 + 500 * MS, "{took:?}");
        // Then it costs nothing any more.
        let began = Instant::now();
        for _ in 0..20 {
            held(&here, "later").await.release().await.unwrap();
        }
        let each = began.elapsed() / 20;
        println!("then {each:?} each");
        assert!(each <= ONE_SERVER / 2, "{each:?}");
        tokio::join!(works(&here, &there, "works"), works(&fresh, &here, "works for others"));
        assert!(!kept.is_lost(), "{:?}", kept.release().await);
        kept.release().await.unwrap();
        group.0[..minority].iter().for_each(RedisServer::resume);
    }
}

/// A server that was away when the lock was won gives its vote when it is back: then another minority
/// may go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_27_a_held_lock_survives_one_minority_after_another() {
    let group = Group::start(3);
    let here = group.provider().await;
    group.0[0].pause();
    let handle = held(&here, "long").await;
    let key = "distributed-lock:long";
    for away in 0..3 {
        group.0[away].resume();
        everywhere(&group, key).await;
        let next = &group.0[(away + 1) % 3];
        next.pause();
        tokio::time::sleep(SECOND * 2).await;
        assert!(!handle.is_lost(), "server {} was away, then the next", away + 1);
    }
    group.0[0].resume();
    everywhere(&group, key).await;
    handle.release().await.unwrap();
    nowhere(&group, key, SECOND / 2);
}

/// One vote that is removed is given again; a majority of them is the lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_vote_is_given_again_and_a_removed_lock_is_lost() {
    let group = Group::start(3);
    let here = group.provider().await;
    let handle = held(&here, "removed").await;
    let key = "distributed-lock:removed";
    // A server that was slow when the provider was built may not have been asked at first.
    everywhere(&group, key).await;
    assert_eq!(group.0[1].cli(&["DEL", key]), "1");
    everywhere(&group, key).await;
    // An extension may come between the removals and have the first vote given again.
    for _ in 0..10 {
        group.0[..2].iter().for_each(|server| drop(server.cli(&["DEL", key])));
        if timeout(SECOND / 2, handle.lost_token().cancelled()).await.is_ok() {
            break;
        }
    }
    assert!(handle.is_lost());
    assert!(matches!(handle.release().await, Err(LockError::LockLost(_))));
    nowhere(&group, key, SECOND / 2);
}

/// Somebody else has one of its votes: a holder that asks for it again does not queue for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_asks_for_a_vote_takes_no_place_in_a_queue() {
    let group = Group::start(3);
    let (here, there) = (group.provider().await, group.provider().await);
    let before = held(&there, "waited").await;
    // Won by waiting, in the queues of all.
    let (handle, ()) = tokio::join!(here.acquire_lock("waited", Some(SECOND * 5)), async {
        while group.0[0].cli(&["KEYS", "*quorum-queue*"]).is_empty() {
            tokio::time::sleep(MS).await;
        }
        before.release().await.unwrap();
    });
    let handle = handle.unwrap();
    let server = &group.0[0];
    let queue = server.cli(&["KEYS", "*quorum-queue*"]);
    let key = "distributed-lock:waited";
    everywhere(&group, key).await;
    assert_eq!(server.cli(&["DEL", key, &queue]), "2");
    assert_eq!(server.cli(&["SET", key, "foreign", "PX", "1000"]), "OK");
    tokio::time::sleep(MS * 900).await;
    assert_eq!(server.cli(&["GET", key]), "foreign");
    assert_eq!(server.cli(&["KEYS", "*quorum-queue*"]), "");
    everywhere(&group, key).await;
    handle.release().await.unwrap();
}

fn nowhere(group: &Group, key: &str, within: Duration) {
    let began = Instant::now();
    while group.count(key) > 0 {
        assert!(began.elapsed() < within, "a vote is left");
    }
}

/// Waits until each server has the key: an extension every third of a second asks for it, once the
/// server is known to be back.
async fn everywhere(group: &Group, key: &str) {
    let began = Instant::now();
    while group.count(key) < group.0.len() {
        assert!(began.elapsed() < SECOND * 5, "a vote is missing");
        tokio::time::sleep(10 * MS).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_28_a_majority_that_is_down_or_hangs_is_an_error_on_time() {
    for (count, hangs) in [(3, true), (3, false), (5, true)] {
        let strike = if hangs { RedisServer::pause } else { RedisServer::kill };
        let group = Group::start(count);
        let here = group.provider().await;
        held(&here, "before").await.release().await.unwrap();
        let majority = count / 2 + 1;
        group.0[..majority].iter().for_each(strike);
        for wait in [None, Some(100 * MS)] {
            let asked = async {
                match wait {
                    None => here.try_acquire_lock("late").await.map(drop),
                    Some(_) => here.acquire_lock("late", wait).await.map(drop),
                }
            };
            let (result, took) = timed(asked).await;
            assert!(matches!(result, Err(LockError::Connection(_))), "{result:?}");
            assert!(took <= 2600 * MS, "{took:?}");
        }
        let (built, took) = timed(group.builder().build()).await;
        assert!(matches!(built, Err(LockError::Connection(_))), "{:?}", built.map(drop));
        assert!(took <= 2500 * MS, "{took:?}");
        // What the others had granted is undone at once, what was on its way when they go on.
        let left = group.0[majority..].iter();
        let keys = left.map(|server| server.cli(&["EXISTS", "distributed-lock:late"]));
        assert!(keys.clone().all(|key| key == "0"), "{:?}", keys.collect::<Vec<_>>());
        if hangs {
            group.0[..majority].iter().for_each(RedisServer::resume);
            freed(&here, "late", SECOND * 3).await;
            nowhere(&group, "distributed-lock:late", SECOND * 2);
        }
        group.0[majority..].iter().for_each(assert_every_key_expires);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_29_a_majority_that_goes_while_held_is_a_loss_before_the_lease_ends() {
    for strike in [RedisServer::kill as fn(&RedisServer), RedisServer::pause] {
        let group = Group::start(3);
        let here = group.provider().await;
        let handle = held(&here, "gone").await;
        let began = Instant::now();
        group.0[..2].iter().for_each(strike);
        told_of_loss(&handle, SECOND).await;
        println!("told {:?} after the fault", began.elapsed());
        assert!(handle.is_lost());
        assert!(matches!(handle.release().await, Err(LockError::LockLost(_))));
    }
}

/// Two of three servers answer when a lease of one second is nearly over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_30_an_acquire_slower_than_its_validity_is_refused_and_given_back() {
    let group = Group::start(3);
    let proxies = [0, 1].map(|server| FaultProxy::start(group.0[server].address()));
    let urls = [0, 1, 2].map(|server| match proxies.get(server) {
        Some(proxy) => group.0[server].url_by(proxy.port()),
        None => group.0[server].url(),
    });
    // An answer may take 110 ms, and must leave 950 of 1,000 ms.
    let builder = group::of(&urls).expiry(SECOND).min_validity(950 * MS);
    let here = builder.build().await.unwrap();
    held(&here, "quick").await.release().await.unwrap();
    for proxy in &proxies {
        proxy.delay(Way::ToClient, 60 * MS, Duration::ZERO);
    }
    for round in 0..5 {
        let name = format!("slow {round}");
        let result = here.try_acquire_lock(&name).await;
        assert!(matches!(result, Err(LockError::Connection(_))), "{:?}", result.map(|_| ()));
        let key = format!("distributed-lock:{name}");
        nowhere(&group, &key, SECOND / 2);
    }
}

/// Whichever half of the servers two contenders reach first, one of them wins soon; tokens increase
/// although one server's clock is an hour ahead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_32_of_two_that_split_the_votes_one_wins_within_a_bound() {
    let mut servers: Vec<_> = (0..3).map(|_| RedisServer::start(&[])).collect();
    let ahead = ClockShift::new();
    ahead.set(SECOND * 3600, Toward::Future);
    servers.push(RedisServer::builder().envs(ahead.env()).start());
    let group = Group::of(servers);
    // Each is slow on the way to the half that the other is quick on.
    let contender = async |slow: [usize; 2]| {
        let proxies = slow.map(|server| FaultProxy::start(group.0[server].address()));
        for proxy in &proxies {
            proxy.delay(Way::ToServer, 5 * MS, Duration::ZERO);
        }
        let url = |server: usize| match slow.iter().position(|other| *other == server) {
            Some(proxy) => group.0[server].url_by(proxies[proxy].port()),
            None => group.0[server].url(),
        };
        let urls: Vec<_> = (0..4).map(url).collect();
        (group::of(&urls).build().await.unwrap(), proxies)
    };
    let ((one, _keeps_one), (other, _keeps_other)) =
        (contender([0, 1]).await, contender([2, 3]).await);
    let (mut longest, mut last) = (Duration::ZERO, None);
    for _ in 0..30 {
        let began = Instant::now();
        let (first, second) =
            tokio::join!(one.try_acquire_lock("split"), other.try_acquire_lock("split"));
        longest = longest.max(began.elapsed());
        let mut winners: Vec<_> = [first.unwrap(), second.unwrap()].into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "one of them");
        let winner = winners.remove(0);
        let token = winner.fencing_token().await.unwrap();
        assert!(last < Some(token), "{last:?}, then {token:?}");
        last = Some(token);
        winner.release().await.unwrap();
    }
    println!("a winner within {longest:?}");
    assert!(longest <= 2500 * MS, "{longest:?}");
}

/// Servers in a black hole, for a provider that has used them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_42_a_group_in_a_black_hole_costs_one_operation_timeout() {
    let group = Group::start(3);
    let proxies: Vec<_> =
        group.0.iter().map(|server| FaultProxy::start(server.address())).collect();
    let ways = group.0.iter().zip(&proxies);
    let urls: Vec<_> = ways.map(|(server, proxy)| server.url_by(proxy.port())).collect();
    let here = group::of(&urls).build().await.unwrap();
    held(&here, "seen").await.release().await.unwrap();
    for proxy in &proxies {
        proxy.black_hole(Way::ToClient);
    }
    for _ in 0..2 {
        let (result, took) = timed(here.try_acquire_lock("hole")).await;
        assert!(matches!(result, Err(LockError::Connection(_))), "{:?}", result.map(|_| ()));
        assert!(took <= 2500 * MS, "{took:?}");
    }
    for proxy in &proxies {
        proxy.accept_and_say_nothing();
        proxy.reset_all();
    }
    let (built, took) = timed(group::of(&urls).build()).await;
    assert!(matches!(built, Err(LockError::Connection(_))), "{:?}", built.map(drop));
    assert!(took <= 2500 * MS, "{took:?}");
    for proxy in &proxies {
        proxy.heal();
        proxy.reset_all();
    }
    let began = Instant::now();
    while here.acquire_lock("hole", Some(SECOND)).await.is_err() {
        assert!(began.elapsed() < SECOND * 5, "it does not work again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_50_waits_behind_the_own_process_survive_a_restart_of_all() {
    let servers = ["--appendonly", "yes"];
    let group = Group::of((0..3).map(|_| RedisServer::start(&servers)).collect());
    let here = group.builder().expiry(LEASE).build().await.unwrap();
    outage::waits_survive(&here, async || {
        group.0.iter().for_each(RedisServer::kill);
        tokio::time::sleep(3 * SECOND).await;
        group.0.iter().for_each(RedisServer::restart);
    })
    .await;
}
