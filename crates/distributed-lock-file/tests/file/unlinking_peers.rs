//! Peers that unlink the lock file when they release it, as the .NET library does.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use distributed_lock_core::prelude::*;

use crate::worker::{Worker, say, told};
use crate::{lock_path, provider};

const TASKS: usize = 4;
const SPIN: Duration = Duration::from_secs(10);

/// Only one at a time can make the directory.
fn probe(directory: &Path) -> bool {
    let probe = directory.join("probe");
    let alone = std::fs::create_dir(&probe).is_ok();
    if alone {
        std::fs::remove_dir(&probe).unwrap();
    }
    alone
}

/// Tallies acquisitions and overlaps until the time is over.
struct Tally {
    until: tokio::time::Instant,
    acquired: u64,
    overlaps: u64,
}

impl Tally {
    fn new() -> Self {
        Self { until: tokio::time::Instant::now() + SPIN, acquired: 0, overlaps: 0 }
    }

    fn goes_on(&self) -> bool {
        tokio::time::Instant::now() < self.until
    }

    fn count(&mut self, alone: bool) {
        self.acquired += 1;
        self.overlaps += u64::from(!alone);
    }
}

fn tell_sum(tallies: impl Iterator<Item = Tally>) {
    let add = |sum: (u64, u64), tally: Tally| (sum.0 + tally.acquired, sum.1 + tally.overlaps);
    let (acquired, overlaps) = tallies.fold((0, 0), add);
    say(&format!("{acquired} {overlaps}"));
}

/// A worker with tasks that try and release as fast as they can.
pub(crate) fn spin(directory: &Path) {
    told();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let provider = provider(directory);
    let task = || {
        let (provider, directory) = (provider.clone(), directory.to_owned());
        runtime.spawn(async move {
            let mut tally = Tally::new();
            while tally.goes_on() {
                if let Some(handle) = provider.try_acquire_lock("name").await.unwrap() {
                    let alone = probe(&directory);
                    // A peer cannot take a held file away: it unlinks only what it has locked.
                    assert!(!handle.is_lost());
                    tally.count(alone);
                    handle.release().await.unwrap();
                }
                tokio::task::yield_now().await;
            }
            tally
        })
    };
    let tasks: Vec<_> = (0..TASKS).map(|_| task()).collect();
    tell_sum(tasks.into_iter().map(|task| runtime.block_on(task).unwrap()));
}

/// A worker with threads that lock by plain calls and unlink the file while they hold it.
pub(crate) fn spin_and_unlink(directory: &Path) {
    told();
    let path = lock_path(directory, "name");
    let work = || {
        let mut tally = Tally::new();
        while tally.goes_on() {
            if let Some(_locked) = lock_as_peers_do(&path) {
                tally.count(probe(directory));
                std::fs::remove_file(&path).unwrap();
            }
            std::thread::yield_now();
        }
        tally
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..TASKS).map(|_| scope.spawn(work)).collect();
        tell_sum(threads.into_iter().map(|thread| thread.join().unwrap()));
    });
}

fn lock_as_peers_do(path: &Path) -> Option<File> {
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let file = open.unwrap();
    file.try_lock().ok()?;
    let (locked, there) = (file.metadata().ok()?, path.symlink_metadata().ok()?);
    ((locked.dev(), locked.ino()) == (there.dev(), there.ino())).then_some(file)
}

#[test]
fn row_33_four_processes_of_four_spinning_tasks_never_overlap() {
    let directory = tempfile::tempdir().unwrap();
    let roles = ["spinner", "unlinking spinner", "spinner", "unlinking spinner"];
    let start = |role| Worker::start(role, directory.path());
    let mut workers: Vec<_> = roles.into_iter().map(start).collect();
    workers.iter_mut().for_each(|worker| worker.tell("go"));
    for (worker, role) in workers.iter_mut().zip(roles) {
        let said = worker.hears();
        let (acquired, overlaps) = said.split_once(' ').unwrap();
        println!("{role}: {acquired} acquisitions, {overlaps} overlaps");
        assert_eq!(overlaps, "0");
        assert!(acquired.parse::<u64>().unwrap() > 100, "{role} took part: {acquired}");
    }
    workers.into_iter().for_each(Worker::ends);
}
