//! Row 73: foreign or damaged values in every key that the scripts read.
//!
//! A generator makes every state: each key of a lock and of a semaphore with values of another type and
//! with each part of its own format missing, not a number, huge, infinite, far in the future, and without
//! expiry. Each is either healed, or an error names the key and the remedy, which then works.

mod members;
mod redlock;
mod stage;
mod states;
mod without_expiry;

use std::time::Duration;

use distributed_lock_core::Mode;
use distributed_lock_redis::RedisLockProvider;
use distributed_lock_testkit::servers::RedisServer;
use futures_util::future::join_all;

use self::stage::{Stage, acquire};
use self::states::{Keys, State, label};

const MODES: [Mode; 3] = [Mode::Exclusive, Mode::Shared, Mode::Permit { max: 1 }];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_73_damaged_state_is_healed_or_named_with_its_remedy() {
    let server = RedisServer::start(&[]);
    let builder = RedisLockProvider::builder().add_server(server.url());
    let stage = Stage::start(std::slice::from_ref(&server), &builder).await;
    for mode in MODES {
        let keys = Keys::on_one(mode);
        let states = keys.states();
        println!("{mode:?}: {} states", states.len());
        join_all(states.iter().enumerate().map(async |(number, state)| {
            let name = &format!("free {} {number}", label(mode));
            let what = &format!("{mode:?}, {}: {:?}", state.kind, state.deeds);
            for deed in &state.deeds {
                stage.damage(1, name, deed).await;
            }
            stage.is_usable(name, mode, what).await;
        }))
        .await;
    }
}

/// The same while the lock is held: the holder keeps it or is told, and no second one gets in meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_73_damage_beside_a_holder_lets_no_second_one_in() {
    let server = RedisServer::start(&[]);
    let builder = RedisLockProvider::builder().add_server(server.url());
    let stage = Stage::start(std::slice::from_ref(&server), &builder).await;
    for mode in MODES {
        let keys = Keys::on_one(mode);
        let states = keys.states();
        // What replaces the key that the holder has ends the hold: rows 21.
        let is_beside = |state: &&State| !keys.is_hold(state.kind);
        join_all(states.iter().filter(is_beside).enumerate().map(async |(number, state)| {
            let name = &format!("held {} {number}", label(mode));
            let what = &format!("{mode:?}, {}: {:?}", state.kind, state.deeds);
            let held = acquire(&stage.here, name, mode, None).await.unwrap();
            for deed in &state.deeds {
                // The key may be there, of its own type.
                stage.remove(1, name, &deed[1]).await;
                stage.damage(1, name, deed).await;
            }
            let rival = if mode == Mode::Shared { Mode::Exclusive } else { mode };
            let second = acquire(&stage.there, name, rival, Some(Duration::from_secs(2))).await;
            assert!(held.is_lost() || second.is_err(), "{what}: two holders");
            assert!(!held.is_lost(), "{what}: lost");
            held.release().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
            stage.is_usable(name, mode, what).await;
        }))
        .await;
    }
}
