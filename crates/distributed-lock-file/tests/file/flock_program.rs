//! `flock(1)` of util-linux on the same file.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use distributed_lock_core::prelude::*;

use crate::{lock_path, provider};

/// `flock` holding the lock file until its input is closed.
fn holding(path: &Path) -> Child {
    let mut child = Command::new("flock")
        .arg(path)
        .args(["sh", "-c", "echo holds; cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "holds\n");
    child
}

fn flock_can_lock(path: &Path) -> bool {
    flock_succeeds(path, "--exclusive")
}

fn flock_succeeds(path: &Path, how: &str) -> bool {
    Command::new("flock").args(["-n", how]).arg(path).arg("true").status().unwrap().success()
}

#[tokio::test]
async fn excludes_and_is_excluded() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_path(directory.path(), "name");
    let lock = provider(directory.path()).create_lock("name");

    let held = lock.try_acquire().await.unwrap().unwrap();
    assert!(!flock_can_lock(&path));
    held.release().await.unwrap();
    assert!(flock_can_lock(&path));

    let mut other = holding(&path);
    assert!(lock.try_acquire().await.unwrap().is_none());
    drop(other.stdin.take());
    other.wait().unwrap();
    assert!(lock.try_acquire().await.unwrap().is_some());
}

#[tokio::test]
async fn its_shared_locks_are_readers() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_path(directory.path(), "name");
    let lock = provider(directory.path()).create_reader_writer_lock("name");
    let reader = lock.try_acquire_read().await.unwrap().unwrap();
    assert!(flock_succeeds(&path, "--shared") && !flock_can_lock(&path));
    reader.release().await.unwrap();
    let writer = lock.try_acquire_write().await.unwrap().unwrap();
    assert!(!flock_succeeds(&path, "--shared"));
    writer.release().await.unwrap();
}

#[tokio::test]
async fn its_release_wakes_a_waiter() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_path(directory.path(), "name");
    let provider = provider(directory.path());
    // Several times, so that a poll once a second cannot pass for a wake-up.
    let mut waited = Duration::ZERO;
    for _ in 0..10 {
        let mut other = holding(&path);
        let lock = provider.create_lock("name");
        let mut waiting = Box::pin(lock.acquire(Some(Duration::from_secs(10))));
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut waiting).await.is_err());
        drop(other.stdin.take());
        let released = tokio::time::Instant::now();
        waiting.await.unwrap().release().await.unwrap();
        waited += released.elapsed();
        other.wait().unwrap();
    }
    assert!(waited < Duration::from_secs(2), "{waited:?} for 10 hand-overs");
}
