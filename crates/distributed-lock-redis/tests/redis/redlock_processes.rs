//! Processes that use a group: killed, stopped, contending.

use std::collections::BTreeMap;
use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_redis::RedisLockProvider;
use tokio::runtime::Runtime;

use crate::group::{self, Group};
use crate::worker::{Worker, say, told};
use crate::{MS, SECOND, freed, held};

const LEASE: Duration = Duration::from_secs(3);

async fn connected(urls: &str) -> RedisLockProvider {
    let urls: Vec<_> = urls.split(',').map(str::to_owned).collect();
    group::of(&urls).expiry(LEASE).build().await.unwrap()
}

/// Holds the mutex, says its token, and when asked says whether it is lost.
pub(crate) fn hold(runtime: &Runtime, urls: &str) {
    let handle = runtime.block_on(async {
        let handle = connected(urls).await.acquire_lock("held", None).await.unwrap();
        say(&handle.fencing_token().await.unwrap().to_string());
        // The keeper goes on meanwhile.
        tokio::task::spawn_blocking(told).await.unwrap();
        handle
    });
    say(&handle.is_lost().to_string());
    while told().is_some() {}
}

/// Tries whenever it is told to, and says whether it has won; releases at the next word.
pub(crate) fn contend(runtime: &Runtime, urls: &str) {
    runtime.block_on(async {
        let provider = connected(urls).await;
        held(&provider, &format!("own {}", std::process::id())).await.release().await.unwrap();
        say("ready");
        while tokio::task::spawn_blocking(told).await.unwrap().is_some() {
            let won = provider.try_acquire_lock("contended").await.unwrap();
            say(if won.is_some() { "won" } else { "lost" });
            tokio::task::spawn_blocking(told).await.unwrap();
            if let Some(handle) = won {
                assert!(!handle.is_lost());
                handle.release().await.unwrap();
            }
            say("free");
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_1_the_next_follows_a_killed_holder_of_a_majority_after_its_lease() {
    let group = Group::start(3);
    let mut holder = Worker::start("redlock holder", &group.urls());
    holder.hears();
    let here = group.leased(LEASE).await;
    let outlived = here.acquire_lock("held", Some(LEASE * 2)).await;
    assert!(matches!(outlived, Err(LockError::Timeout(_))), "{:?}", outlived.map(|_| ()));
    holder.kill();
    let took = freed(&here, "held", LEASE + SECOND).await;
    println!("free {took:?} after the kill");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_2_a_stopped_holder_of_a_majority_knows_at_once_that_it_has_lost() {
    let group = Group::start(3);
    let mut holder = Worker::start("redlock holder", &group.urls());
    let first: u64 = holder.hears().parse().unwrap();
    holder.stop();
    let here = group.leased(LEASE).await;
    let next = here.acquire_lock("held", Some(LEASE + SECOND)).await.unwrap();
    let second = next.fencing_token().await.unwrap().0;
    holder.tell("are you lost?");
    holder.go_on();
    assert_eq!(holder.hears(), "true", "the first question after it went on");
    assert!(first < second, "a resource that has seen {second} would take a write with {first}");
    next.release().await.unwrap();
}

/// Five processes try at the same time, again and again: each time exactly one of them wins.
/// `ROUNDS=200` runs longer.
#[test]
fn five_contenders_have_a_winner_in_every_round() {
    let rounds = std::env::var("ROUNDS").map_or(40, |rounds| rounds.parse().unwrap());
    let group = Group::start(5);
    let mut contenders: Vec<_> =
        (0..5).map(|_| Worker::start("contender", &group.urls())).collect();
    for contender in &mut contenders {
        assert_eq!(contender.hears(), "ready");
    }
    let mut wins = BTreeMap::new();
    let mut longest = Duration::ZERO;
    for round in 0..rounds {
        let began = tokio::time::Instant::now();
        contenders.iter_mut().for_each(|contender| contender.tell("try"));
        let said: Vec<_> = contenders.iter_mut().map(Worker::hears).collect();
        longest = longest.max(began.elapsed());
        let winners: Vec<_> = (0..5).filter(|number| said[*number] == "won").collect();
        assert_eq!(winners.len(), 1, "round {round}: {said:?}");
        *wins.entry(winners[0]).or_insert(0) += 1;
        contenders.iter_mut().for_each(|contender| contender.tell("release"));
        contenders.iter_mut().for_each(|contender| assert_eq!(contender.hears(), "free"));
    }
    println!("{rounds} rounds, each decided within {longest:?}; wins {wins:?}");
    assert!(longest <= 2500 * MS, "{longest:?}");
}
