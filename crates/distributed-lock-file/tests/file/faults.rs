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
    holder.stop();
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

/// A worker that takes and releases permits of `name` until it is killed, and says so if too many
/// are held.
pub(crate) fn hold_permits(directory: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let semaphore = provider(directory).create_semaphore("name", PERMITS);
        say("starts");
        loop {
            let permit = semaphore.acquire(None).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            permit.release().await.unwrap();
        }
    });
}

const PERMITS: u32 = 4;

#[tokio::test]
async fn row_38_permits_of_killed_holders_return() {
    let directory = tempfile::tempdir().unwrap();
    let semaphore = provider(directory.path()).create_semaphore("name", PERMITS);
    for _ in 0..5 {
        let start = |_| Worker::start("permit holder", directory.path());
        let mut workers: Vec<_> = (0..8).map(start).collect();
        workers.iter_mut().for_each(|worker| worker.expect("starts"));
        // Killed wherever they are: about to acquire, holding, or about to release.
        for worker in &mut workers {
            tokio::time::sleep(Duration::from_millis(3)).await;
            worker.kill();
        }
        let mut held = Vec::new();
        for _ in 0..PERMITS {
            held.push(semaphore.acquire(Some(Duration::from_millis(100))).await.unwrap());
        }
        assert!(semaphore.try_acquire().await.unwrap().is_none(), "never more than all permits");
    }
}

#[tokio::test]
async fn row_1_and_38_a_permit_follows_a_killed_holder_within_100_ms() {
    let directory = tempfile::tempdir().unwrap();
    let semaphore = provider(directory.path()).create_semaphore("name", 1);
    for _ in 0..5 {
        let mut holder = Worker::start("permit holder", directory.path());
        holder.expect("starts");
        holder.stop();
        let mut waiting = Box::pin(semaphore.acquire(Some(Duration::from_secs(10))));
        // The holder may have been stopped between two permits.
        let early = tokio::time::timeout(Duration::from_millis(50), &mut waiting).await;
        let killed = Instant::now();
        holder.kill();
        let permit = match early {
            Ok(permit) => permit.unwrap(),
            Err(_) => waiting.await.unwrap(),
        };
        assert!(killed.elapsed() <= Duration::from_millis(100), "{:?}", killed.elapsed());
        permit.release().await.unwrap();
    }
}

/// A worker that meets a full disk, and then a read-only one.
pub(crate) fn fill_a_disk(directory: &Path) {
    let mount = |args: &[&str]| {
        let status = Command::new("mount").args(args).arg(directory).status();
        assert!(status.unwrap().success(), "mount {args:?}");
    };
    mount(&["-t", "tmpfs", "-o", "size=16k,nr_inodes=3,mode=0700", "tmpfs"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // Two files fit beside the directory, a third has no inode left.
        let provider = provider(directory);
        let _first = provider.acquire_lock("first", None).await.unwrap();
        let second = provider.acquire_lock("second", None).await.unwrap();
        let full = provider.acquire_lock("third", Some(Duration::from_secs(60))).await;
        assert!(matches!(full, Err(LockError::Backend(_))), "{full:?}");
        second.release().await.unwrap();

        mount(&["--bind", directory.to_str().unwrap()]);
        mount(&["-o", "remount,bind,ro"]);
        let read_only = crate::provider(directory).try_acquire_lock("second").await;
        assert!(matches!(read_only, Err(LockError::Backend(_))), "{read_only:?}");
    });
    say("both were errors");
}

#[test]
fn row_36_a_full_or_read_only_disk_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let mut worker = Worker::start_with_mounts("small disk", directory.path());
    worker.expect("both were errors");
    worker.ends();
}

/// What asks without locking must not be led astray either.
#[tokio::test]
async fn row_72_asking_for_the_holder_neither_hangs_nor_follows_links() {
    let directory = tempfile::tempdir().unwrap();
    let path = crate::lock_path(directory.path(), "name");
    let provider = provider(directory.path());
    let ask = async || {
        let provider = provider.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime
                .unwrap()
                .block_on(provider.holder("name", distributed_lock_core::Mode::Exclusive))
        });
        let asked = tokio::time::timeout(Duration::from_secs(5), asked).await;
        asked.expect("no hang").unwrap()
    };
    assert!(ask().await.unwrap().is_none());
    let elsewhere = directory.path().join("elsewhere");
    std::fs::write(&elsewhere, format!("since=1 pid=1 host=there{:231}\n", "")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    assert!(matches!(ask().await, Err(LockError::Backend(_))));
    std::fs::remove_file(&path).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let refused = ask().await;
    // Lets go of a thread that hangs.
    drop(std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap());
    assert!(matches!(refused, Err(LockError::Backend(_))), "{refused:?}");
}
