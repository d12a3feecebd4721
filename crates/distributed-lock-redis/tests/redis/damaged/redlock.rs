//! The same on three servers: damage on one of them is not noticed, damage on all of them is healed or named.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use distributed_lock_core::Mode;
use distributed_lock_core::prelude::*;
use futures_util::{FutureExt, StreamExt, stream};

use super::MODES;
use super::stage::{LEASE, Stage, acquire};
use super::states::{Keys, State, label};
use crate::group::Group;

/// So many states are tried at a time: each takes requests to three servers.
const AT_A_TIME: usize = 64;

/// Much longer than requests take to three servers, and shorter than any lease: nothing was waited for.
const AT_ONCE: Duration = Duration::from_secs(4);

async fn stage(group: &Group) -> Stage {
    Stage::start(&group.0, &group.builder()).await
}

/// Does something in each state, many at a time, and reports every state in which that fails.
async fn in_each(
    states: &[State],
    (mode, of): (Mode, &str),
    act: impl AsyncFn(&str, &State, &str),
) {
    println!("{mode:?}: {} states", states.len());
    let each = states.iter().enumerate().map(|(number, state)| {
        let name = format!("{of} {} {number}", label(mode));
        let what = format!("{of}, {mode:?}, {}: {:?}", state.kind, state.deeds);
        let act = &act;
        AssertUnwindSafe(async move { act(&name, state, &what).await }).catch_unwind()
    });
    let results: Vec<_> = stream::iter(each).buffer_unordered(AT_A_TIME).collect().await;
    let failures = results.iter().filter_map(|result| result.as_ref().err()).count();
    assert_eq!(failures, 0, "of {} states, which are reported above", states.len());
}

async fn damage(stage: &Stage, count: usize, name: &str, state: &State) {
    for deed in &state.deeds {
        // The key may be there, of its own type.
        stage.remove(count, name, &deed[1]).await;
        stage.damage(count, name, deed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_73_damage_on_all_servers_is_healed_or_named_with_its_remedy() {
    let group = Group::start(3);
    let stage = stage(&group).await;
    for mode in MODES {
        in_each(&Keys::on_each(mode).states(), (mode, "all"), async |name, state, what| {
            damage(&stage, 3, name, state).await;
            stage.is_usable(name, mode, what).await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_73_damage_on_one_server_of_three_is_not_noticed() {
    let group = Group::start(3);
    let stage = stage(&group).await;
    for mode in MODES {
        let keys = Keys::on_each(mode);
        let mut states = keys.states();
        // The greatest counter counts: near its end, it brings the others there.
        states.retain(|state| !state.is_near_the_last_token());
        in_each(&states, (mode, "one"), async |name, state, what| {
            damage(&stage, 1, name, state).await;
            let mut last = 0;
            for by in [&stage.here, &stage.there, &stage.here] {
                let held = acquire(by, name, mode, Some(AT_ONCE)).await;
                let held = held.unwrap_or_else(|error| panic!("{what}: {error:?}"));
                let token = held.token().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
                assert!(token.0 > last, "{what}: {token:?} after {last}");
                last = token.0;
                let rival = if mode == Mode::Shared { Mode::Exclusive } else { mode };
                let second = acquire(&stage.there, name, rival, Some(Duration::ZERO)).await;
                assert!(matches!(second, Err(LockError::Timeout(_))), "{what}: two holders");
                held.release().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
            }
        })
        .await;
    }
}

/// The holder keeps the lock through its extensions, and no second one gets in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_73_damage_beside_a_holder_on_a_majority_lets_no_second_one_in() {
    let group = Group::start(3);
    let stage = stage(&group).await;
    for mode in MODES {
        let keys = Keys::on_each(mode);
        in_each(&keys.states(), (mode, "held"), async |name, state, what| {
            let held = stage.held_on_all(name, mode, keys.mutex()).await;
            // What replaces the key that holds ends the hold on its server.
            let count = if keys.is_hold(state.kind) { 1 } else { 3 };
            damage(&stage, count, name, state).await;
            let rival = if mode == Mode::Shared { Mode::Exclusive } else { mode };
            let second = acquire(&stage.there, name, rival, Some(LEASE / 2)).await;
            assert!(second.is_err(), "{what}: two holders");
            assert!(!held.is_lost(), "{what}: lost");
            held.release().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
            stage.is_usable(name, mode, what).await;
        })
        .await;
    }
}
