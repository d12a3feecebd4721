//! The first start in a directory, by any umask, and users that come later.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_core::{Mode, error::LockError};
use distributed_lock_file::FileLockProvider;

use crate::worker::{Worker, say, told};

/// Some other user.
pub(crate) const NEIGHBOUR: u32 = 65_534;

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o7777
}

/// A worker that starts first, with the umask and the mode that it is told.
pub(crate) fn start_first(directory: &Path) {
    let octal = || u32::from_str_radix(&told().unwrap(), 8).unwrap();
    let (umask, mode) = (octal(), octal());
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
    use_every_kind_of_file(&directory.join("made/locks"), mode);
    say("used");
}

/// A directory, and a user whom permissions mean something to.
fn parent_of_a_user() -> (tempfile::TempDir, Option<u32>) {
    let parent = tempfile::tempdir().unwrap();
    fs::set_permissions(parent.path(), Permissions::from_mode(0o755)).unwrap();
    // Fails for all but root, who needs it.
    let given_away = chown(parent.path(), Some(NEIGHBOUR), Some(NEIGHBOUR)).is_ok();
    (parent, given_away.then_some(NEIGHBOUR))
}

fn use_every_kind_of_file(directory: &Path, mode: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let build = || FileLockProvider::builder().mode(mode).build(directory).unwrap();
        let (provider, other) = (build(), build());
        let held = provider.acquire_lock("name", None).await.unwrap();
        held.fencing_token().await.unwrap();
        let locks = other.create_reader_writer_lock("name");
        let refused = locks.acquire_write(Some(Duration::from_millis(20))).await;
        assert!(matches!(refused, Err(LockError::Timeout(_))), "{refused:?}");
        held.release().await.unwrap();
        locks.acquire_read(None).await.unwrap().release().await.unwrap();
        let permit = provider.create_semaphore("name", 1).acquire(None).await.unwrap();
        let permits = other.create_semaphore("name", 1);
        let refused = permits.acquire(Some(Duration::from_millis(20))).await;
        assert!(matches!(refused, Err(LockError::Timeout(_))), "{refused:?}");
        permit.release().await.unwrap();
    });
}

#[test]
fn row_60_directory_and_files_have_the_mode_that_was_asked_for() {
    for (file_mode, directory_mode) in [(0o600, 0o700), (0o660, 0o770), (0o640, 0o750)] {
        for umask in ["022", "077", "002", "0", "0777", "0277"] {
            let (parent, user) = parent_of_a_user();
            let mut worker = Worker::start_as("first", parent.path(), user);
            worker.tell(umask);
            worker.tell(&format!("{file_mode:o}"));
            worker.expect("used");
            worker.ends();
            let locks = parent.path().join("made/locks");
            let seen = format!("mode {file_mode:o}, umask {umask}");
            assert_eq!(mode(&locks), directory_mode, "{seen}");
            // Those who may use the directory get through what was made on the way to it.
            assert_eq!(mode(&parent.path().join("made")), directory_mode & !0o022, "{seen}");
            let entries: Vec<_> = fs::read_dir(&locks).unwrap().map(Result::unwrap).collect();
            assert_eq!(entries.len(), 5, "lock, turnstile, token, slot and bell: {entries:?}");
            for entry in entries {
                assert_eq!(mode(&entry.path()), file_mode, "{seen}: {entry:?}");
            }
            let left = fs::read_dir(parent.path()).unwrap().count();
            assert_eq!(left, 1, "nothing temporary is left");
        }
    }
}

/// Processes that start together, one of which makes the directory, all get in.
#[test]
fn row_60_many_that_start_first_at_once() {
    for _ in 0..3 {
        let (parent, user) = parent_of_a_user();
        let start = |_| Worker::start_as("first", parent.path(), user);
        let mut workers: Vec<_> = (0..6).map(start).collect();
        for worker in &mut workers {
            worker.tell("0777");
            worker.tell("660");
        }
        for mut worker in workers {
            // They hold the same names, so one may meet the other's lock: it has got in all the same.
            let said = worker.hears();
            assert_eq!(said, "used");
            worker.ends();
        }
    }
}

/// A worker of another user that locks files which it did not make.
pub(crate) fn come_later(directory: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let shared = FileLockProvider::builder().mode(0o666).allow_shared_directory(true);
        let provider = shared.build(directory).unwrap();
        let held = provider.acquire_lock("name", None).await.unwrap();
        held.fencing_token().await.unwrap();
        held.release().await.unwrap();
        provider.create_semaphore("name", 1).acquire(None).await.unwrap().release().await.unwrap();
        provider.holder("name", Mode::Exclusive).await.unwrap();
    });
    say("locked");
}

/// `fs.protected_regular` as it was, set again when this is dropped.
struct Sysctl(String);

const PROTECTED_REGULAR: &str = "/proc/sys/fs/protected_regular";

impl Sysctl {
    fn set(value: &str) -> Self {
        let before = fs::read_to_string(PROTECTED_REGULAR).unwrap();
        // Fails for all but root, on whose machines it is set as a rule.
        let _ = fs::write(PROTECTED_REGULAR, value);
        Self(before)
    }
}

impl Drop for Sysctl {
    fn drop(&mut self) {
        let _ = fs::write(PROTECTED_REGULAR, self.0.trim());
    }
}

/// The second user of a sticky directory, and root after another user.
#[test]
fn row_60_later_users_get_into_a_sticky_directory() {
    let _protected = Sysctl::set("1");
    let is_root = rustix::process::geteuid().is_root();
    for owner in [0, NEIGHBOUR + 1] {
        let parent = tempfile::tempdir().unwrap();
        fs::set_permissions(parent.path(), Permissions::from_mode(0o755)).unwrap();
        let locks = parent.path().join("locks");
        fs::create_dir(&locks).unwrap();
        fs::set_permissions(&locks, Permissions::from_mode(0o1777)).unwrap();
        if !is_root {
            // Alone, a user can only come back.
            (0..2).for_each(|_| later_user(&locks, None));
            continue;
        }
        chown(&locks, Some(owner), None).unwrap();
        for user in [Some(NEIGHBOUR), None, Some(NEIGHBOUR - 1), Some(NEIGHBOUR)] {
            later_user(&locks, user);
        }
    }
}

fn later_user(locks: &Path, user: Option<u32>) {
    let mut worker = Worker::start_as("later user", locks, user);
    worker.expect("locked");
    worker.ends();
}
