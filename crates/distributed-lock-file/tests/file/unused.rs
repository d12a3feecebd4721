//! Files of names that are not used any more.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use distributed_lock_core::error::LockError;
use distributed_lock_core::prelude::*;
use distributed_lock_file::FileLockProvider;

use crate::provider;

const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn sweep(directory: &Path) -> usize {
    FileLockProvider::builder().remove_unused(directory, A_DAY).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Makes all files look as if they were used two days ago.
fn age(directory: &Path) {
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for name in names(directory) {
        let file = fs::File::options().write(true).open(directory.join(name));
        if let Ok(file) = file {
            file.set_modified(then).unwrap();
        }
    }
}

async fn use_all(directory: &Path, name: &str) {
    let (here, there) = (provider(directory), provider(directory));
    let held = here.acquire_lock(name, None).await.unwrap();
    held.fencing_token().await.unwrap();
    let writer = there.create_lock(name);
    writer.acquire(Some(Duration::from_millis(10))).await.unwrap_err();
    held.release().await.unwrap();
    here.create_semaphore(name, 3).acquire(None).await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn what_is_unused_goes_and_everything_else_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    use_all(path, "unused").await;
    assert_eq!(names(path).len(), 5);
    assert_eq!(sweep(path), 0, "used just now");
    age(path);
    for stranger in ["notes.lock", "x.token", &format!("{}.other", "A".repeat(32))] {
        fs::write(path.join(stranger), "precious").unwrap();
    }
    fs::create_dir(path.join(format!("{}.lock", "B".repeat(32)))).unwrap();
    use_all(path, "held").await;
    use_all(path, "permit").await;
    let provider = provider(path);
    let held = provider.acquire_lock("held", None).await.unwrap();
    let permit = provider.create_semaphore("permit", 3).acquire(None).await.unwrap();
    age(path);
    let before = names(path).len();
    // All of the unused name; of the others what belongs to another lock than the one that is held.
    let removed = sweep(path);
    assert_eq!(names(path).len(), before - removed);
    let left: Vec<String> = names(path);
    let of = |name: &str| {
        let stem = distributed_lock_file::name::lock_file_name(name).unwrap();
        let stem = stem.trim_end_matches("lock").to_owned();
        let mut endings: Vec<String> =
            left.iter().filter_map(|file| file.strip_prefix(&stem)).map(str::to_owned).collect();
        endings.sort();
        endings
    };
    assert!(of("unused").is_empty(), "{:?}", of("unused"));
    assert_eq!(of("held"), ["lock", "token"]);
    let permits = of("permit");
    assert!(permits.contains(&"bell".into()) && permits.contains(&"token".into()), "{permits:?}");
    assert!(permits.iter().any(|ending| ending.starts_with("slot")), "{permits:?}");
    assert!(left.iter().filter(|name| name.contains(['n', 'x', 'o'])).count() >= 3, "{left:?}");

    assert!(!held.is_lost() && !permit.is_lost());
    assert!(crate::provider(path).try_acquire_lock("held").await.unwrap().is_none());
    held.release().await.unwrap();
    permit.release().await.unwrap();
}

#[tokio::test]
async fn tokens_go_on_increasing() {
    let directory = tempfile::tempdir().unwrap();
    let provider = provider(directory.path());
    let held = provider.acquire_lock("name", None).await.unwrap();
    let before = held.fencing_token().await.unwrap();
    held.release().await.unwrap();
    age(directory.path());
    assert_eq!(sweep(directory.path()), 2);
    let held = provider.acquire_lock("name", None).await.unwrap();
    let token = held.fencing_token().await.unwrap();
    assert!(token > before);
    held.release().await.unwrap();
    // A counter ahead of the clock is all that knows it.
    let counter = crate::lock_path(directory.path(), "name").with_extension("token");
    fs::write(&counter, format!("{:020}\n", u64::MAX / 2)).unwrap();
    age(directory.path());
    assert_eq!(sweep(directory.path()), 1);
    assert!(counter.exists());
}

#[test]
fn a_time_that_is_too_short_or_a_directory_that_is_not_there_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let sweep = |path: &Path, time| FileLockProvider::builder().remove_unused(path, time);
    let short = sweep(directory.path(), Duration::from_secs(1));
    assert!(matches!(short, Err(LockError::Config(_))), "{short:?}");
    let missing = sweep(&directory.path().join("missing"), A_DAY);
    assert!(matches!(missing, Err(LockError::Config(_))), "{missing:?}");
    assert!(names(directory.path()).is_empty());
}
