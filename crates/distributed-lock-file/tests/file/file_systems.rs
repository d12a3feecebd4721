//! A real file system whose `flock` is up to a user-space server.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use distributed_lock_core::error::LockError;
use distributed_lock_core::prelude::*;
use distributed_lock_file::FileLockProvider;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

/// A directory, seen through FUSE until this is dropped.
struct Mirror(Child);

impl Mirror {
    async fn of(directory: &Path, mirror: &Path) -> Self {
        let mut bindfs = Command::new("bindfs");
        bindfs.arg("-f").args([directory, mirror]).stdin(Stdio::null());
        let child = Self(bindfs.spawn().unwrap());
        std::fs::write(directory.join("seen"), "").unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !mirror.join("seen").exists() {
            assert!(Instant::now() < deadline, "bindfs has mounted nothing");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        child
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        // It unmounts when it is told to end.
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
async fn row_37_a_file_system_without_a_flock_of_its_own_is_refused() {
    let (directory, mirror) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mounted = Mirror::of(directory.path(), mirror.path()).await;
    let locks = mirror.path().join("locks");
    match FileLockProvider::builder().build(&locks) {
        Err(LockError::Config(reason)) => {
            assert!(
                reason.contains("FUSE") && reason.contains("allow_any_file_system"),
                "{reason}"
            );
        }
        other => panic!("not refused: {other:?}"),
    }
    let allowed = FileLockProvider::builder().allow_any_file_system(true).build(&locks).unwrap();
    allowed.acquire_lock("x", None).await.unwrap().release().await.unwrap();
    drop(allowed);
    drop(mounted);
    // The same directory without FUSE in between.
    FileLockProvider::builder().build(directory.path().join("locks")).unwrap();
}
