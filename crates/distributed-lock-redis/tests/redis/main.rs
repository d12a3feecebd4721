//! Redis locks on private servers.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests")]

mod clocks;
mod conformance;
mod connections;
mod crashes;
mod damaged;
mod demoted;
mod driver_faults;
mod foreign_keys;
mod group;
mod health;
mod hostile;
mod kills;
mod late_links;
mod late_requests;
mod least_privileges;
mod leftovers;
mod lost_replies;
mod mistakes;
mod processes;
mod queue;
mod redis_py;
mod redlock;
mod redlock_faults;
mod redlock_foreign_keys;
mod redlock_guard;
mod redlock_late;
mod redlock_least_privileges;
mod redlock_leftovers;
mod redlock_processes;
mod redlock_refusals;
mod redlock_resources;
mod redlock_undo;
mod redlock_waits;
mod refusals;
mod requests;
mod resources;
mod seeded_bugs;
mod slow_links;
mod unwelcome;
mod worker;

use std::time::Duration;

use distributed_lock_core::error::LockResult;
use distributed_lock_core::prelude::*;
use distributed_lock_redis::{RedisLockHandle, RedisLockProvider};
use distributed_lock_testkit::servers::RedisServer;
use tokio::time::Instant;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A provider with leases of one second, extended every third of it.
async fn provider(url: &str) -> RedisLockProvider {
    leased(url, SECOND).await
}

async fn leased(url: &str, expiry: Duration) -> RedisLockProvider {
    RedisLockProvider::builder().add_server(url).expiry(expiry).build().await.unwrap()
}

/// Tells a server to do something.
fn order(server: &RedisServer, command: &[&str]) {
    let reply = server.cli(command);
    assert!(!reply.starts_with("ERR"), "{command:?}: {reply}");
}

async fn held(provider: &RedisLockProvider, name: &str) -> RedisLockHandle {
    provider.try_acquire_lock(name).await.unwrap().expect("a free lock")
}

async fn is_held(provider: &RedisLockProvider, name: &str) -> bool {
    provider.try_acquire_lock(name).await.unwrap().is_none()
}

/// How long it took.
async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let began = Instant::now();
    (future.await, began.elapsed())
}

/// Takes a free lock by waiting at most so long, and gives it back; returns how long it took.
async fn freed(provider: &RedisLockProvider, name: &str, within: Duration) -> Duration {
    let (handle, took) = timed(provider.acquire_lock(name, Some(within))).await;
    handle
        .unwrap_or_else(|error| panic!("not free within {within:?}: {error:?}"))
        .release()
        .await
        .unwrap();
    took
}

async fn told_of_loss(handle: &impl LockHandle, within: Duration) -> Duration {
    let (told, took) = timed(tokio::time::timeout(within, handle.lost_token().cancelled())).await;
    told.unwrap_or_else(|_| panic!("not told within {within:?}"));
    assert!(handle.is_lost(), "told, and does not say so");
    took
}

/// Fails unless every key at the server has an expiry.
fn assert_every_key_expires(server: &RedisServer) {
    for key in server.cli(&["KEYS", "*"]).lines().filter(|key| !key.is_empty()) {
        assert_ne!(server.cli(&["PTTL", key]), "-1", "{key} has no expiry");
    }
}

fn is_backend<T>(result: &LockResult<T>) -> bool {
    matches!(result, Err(LockError::Backend(_)))
}
