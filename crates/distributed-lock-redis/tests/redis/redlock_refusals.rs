//! What servers of a group refuse: said to the caller, by the server's own words.

use std::error::Error;

use distributed_lock_core::prelude::*;
use distributed_lock_testkit::proxy::{FaultProxy, Way};
use tokio::time::Instant;

use crate::group::{self, Group};
use crate::{MS, SECOND, freed, held, order};

/// The text of an error and of everything below it.
fn whole_text(error: &LockError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_servers_refuse_says_what_they_said() {
    let group = Group::start(3);
    let here = group.leased(SECOND * 30).await;
    let handle = held(&here, "refused").await;
    for server in &group.0 {
        order(server, &["ACL", "SETUSER", "default", "-eval", "-evalsha"]);
    }
    let refused = handle.release().await.unwrap_err();
    let text = whole_text(&refused);
    println!("{text}");
    assert!(matches!(refused, LockError::Backend(_)), "{refused:?}");
    assert!(text.contains(" of 3") && text.contains("evalsha"), "{text}");
    for server in &group.0 {
        order(server, &["ACL", "SETUSER", "default", "+@all"]);
    }
    // Tried again in the background.
    freed(&here, "refused", SECOND * 5).await;
}

/// A minority that refuses for good hides nothing: the others can answer later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_by_a_minority_is_no_lasting_one() {
    let group = Group::start(3);
    let here = group.leased(SECOND * 30).await;
    order(&group.0[0], &["ACL", "SETUSER", "default", "-eval", "-evalsha", "-set"]);
    held(&here, "works").await.release().await.unwrap();
    group.0[1].pause();
    let refused = here.try_acquire_lock("silent").await.map(drop).unwrap_err();
    println!("{}", whole_text(&refused));
    assert!(matches!(refused, LockError::Connection(_)), "{refused:?}");
    group.0[1].resume();
    order(&group.0[2], &["ACL", "SETUSER", "default", "-eval", "-evalsha", "-set"]);
    // Until the provider knows that the second answers again, it may be that one.
    let began = Instant::now();
    loop {
        let refused = here.try_acquire_lock("refused").await.map(drop).unwrap_err();
        if !refused.is_retryable() {
            assert!(matches!(refused, LockError::Backend(_)), "{refused:?}");
            return;
        }
        assert!(began.elapsed() < SECOND * 10, "{refused:?}");
        tokio::time::sleep(50 * MS).await;
    }
}

/// Of three servers one gives its vote back, one has lost it and one refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_fails_by_one_refusal_says_what_was_refused() {
    let group = Group::start(3);
    let here = group.leased(SECOND * 30).await;
    let mut handle = held(&here, "refused").await;
    while group.count("distributed-lock:refused") < 3 {
        handle.release().await.unwrap();
        handle = held(&here, "refused").await;
        tokio::time::sleep(50 * MS).await;
    }
    order(&group.0[0], &["DEL", "distributed-lock:refused"]);
    order(&group.0[1], &["ACL", "SETUSER", "default", "-eval", "-evalsha"]);
    let refused = handle.release().await.unwrap_err();
    let text = whole_text(&refused);
    println!("{text}");
    assert!(text.contains("2 of 3") && text.contains("evalsha"), "{text}");
    // The other two can do it yet.
    assert!(refused.is_retryable(), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_info_is_told_which_permission_is_missing() {
    let group = Group::start(3);
    for server in &group.0 {
        order(server, &["ACL", "SETUSER", "default", "-info"]);
    }
    let refused = group.builder().build().await.map(drop).unwrap_err();
    let text = whole_text(&refused);
    println!("{text}");
    assert!(matches!(refused, LockError::Backend(_)), "{refused:?}");
    assert!(text.contains("INFO") && text.contains("+info") && text.contains(" of 3"), "{text}");
}

/// Every connection is dead, and new ones would work: an extension replaces them in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_survives_the_end_of_all_connections_without_a_word() {
    for (servers, expiry) in [(3, SECOND), (3, SECOND * 3), (5, SECOND * 3)] {
        let group = Group::start(servers);
        let proxies: Vec<_> =
            group.0.iter().map(|server| FaultProxy::start(server.address())).collect();
        let ways = group.0.iter().zip(&proxies);
        let urls: Vec<_> = ways.map(|(server, proxy)| server.url_by(proxy.port())).collect();
        let here = group::of(&urls).expiry(expiry).build().await.unwrap();
        let handle = held(&here, "kept").await;
        for proxy in &proxies {
            proxy.black_hole(Way::ToClient);
        }
        // An extension is sent into each connection, and its reply vanishes.
        tokio::time::sleep(expiry / 3 + 20 * MS).await;
        for proxy in &proxies {
            proxy.heal();
        }
        tokio::time::sleep(expiry * 2).await;
        let vanished: u64 = proxies.iter().map(|proxy| proxy.effects().vanished).sum();
        assert!(vanished > 0, "nothing vanished");
        assert!(!handle.is_lost(), "{servers} servers, {expiry:?}: {:?}", handle.release().await);
        handle.release().await.unwrap();
    }
}
