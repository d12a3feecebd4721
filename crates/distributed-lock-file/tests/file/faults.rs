//! Holders that are killed or stopped, and directories that go away.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use distributed_lock_core::error::LockError;
use distributed_lock_core::prelude::*;
use rustix::process::Signal;
use tokio::time::Instant;

use crate::provider;
use crate::worker::{Worker, say, told};

/// A worker that holds `name` until it is told to release it.
pub(crate) fn hold(directory: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let handle = provider(directory).acquire_lock("name", None).await.unwrap();
        say("holds");
        told();
        say(if handle.is_lost() { "lost" } else { "still holds" });
        handle.release().await.unwrap();
    });
}

/// A worker that holds `name` and starts a child that outlives it.
pub(crate) fn hold_and_fork(directory: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let _handle = provider(directory).acquire_lock("name", None).await.unwrap();
        // Ends when its input, which comes from the test, is closed.
        let mut child = Command::new("cat").stdout(Stdio::null()).spawn().unwrap();
        say("holds");
        child.wait().unwrap();
    });
}

/// The lock is ours within the time that the promise gives after a holder's death.
async fn passes_on_within_100_ms(directory: &Path, end_holder: impl FnOnce()) {
    let provider = provider(directory);
    let lock = provider.create_lock("name");
    let mut waiting = Box::pin(lock.acquire(Some(Duration::from_secs(10))));
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut waiting).await.is_err());
    let ended = Instant::now();
    end_holder();
    waiting.await.unwrap().release().await.unwrap();
    assert!(ended.elapsed() <= Duration::from_millis(100), "{:?}", ended.elapsed());
}

#[tokio::test]
async fn row_1_the_next_holder_follows_a_killed_one_within_100_ms() {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = Worker::start("holder", directory.path());
    holder.expect("holds");
    passes_on_within_100_ms(directory.path(), || holder.kill()).await;
}

#[tokio::test]
async fn row_3_a_stopped_holder_still_holds() {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = Worker::start("holder", directory.path());
    holder.expect("holds");
    holder.signal(Signal::STOP);
    let lock = provider(directory.path()).create_lock("name");
    let refused = lock.acquire(Some(Duration::from_millis(200))).await;
    assert!(matches!(refused, Err(LockError::Timeout(_))), "{refused:?}");
    holder.signal(Signal::CONT);
    holder.tell("release");
    holder.expect("still holds");
    holder.ends();
    lock.acquire(Some(Duration::from_secs(5))).await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn row_34_a_child_of_a_killed_holder_does_not_inherit_the_lock() {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = Worker::start("forking holder", directory.path());
    holder.expect("holds");
    passes_on_within_100_ms(directory.path(), || holder.kill()).await;
}

#[tokio::test]
async fn row_36_a_removed_directory_is_an_error() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("locks");
    let provider = provider(&directory);
    std::fs::remove_dir_all(&directory).unwrap();
    let lock = provider.create_lock("name");
    let tried = lock.try_acquire().await;
    assert!(matches!(tried, Err(LockError::Backend(_))), "{tried:?}");
    let acquired = lock.acquire(Some(Duration::from_secs(60))).await;
    assert!(matches!(acquired, Err(LockError::Backend(_))), "{acquired:?}");
}

#[tokio::test]
async fn a_wait_ends_with_an_error_when_its_directory_is_removed() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("locks");
    let held = provider(&directory).acquire_lock("name", None).await.unwrap();
    let lock = provider(&directory).create_lock("name");
    let waiting = tokio::spawn(async move { lock.acquire(Some(Duration::from_secs(60))).await });
    tokio::task::yield_now().await;
    let removed = Instant::now();
    std::fs::remove_dir_all(&directory).unwrap();
    let waited = waiting.await.unwrap();
    assert!(matches!(waited, Err(LockError::Backend(_))), "{waited:?}");
    assert!(removed.elapsed() <= Duration::from_millis(1500), "{:?}", removed.elapsed());
    held.lost_token().cancelled().await;
}
