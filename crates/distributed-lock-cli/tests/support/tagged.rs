//! Processes that are known by a word in their command lines, wherever in the system they are.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use distributed_lock_testkit::history::now;

/// A word that no other process has: also a number of seconds to sleep.
pub(crate) struct Tag(pub(crate) String);

impl Tag {
    pub(crate) fn new() -> Self {
        let random = RandomState::new().hash_one(()) % 1_000_000_000_000;
        Self(format!("1000.{random:012}"))
    }

    /// The processes that run with it, without those that wait to be reaped.
    pub(crate) fn running(&self) -> Vec<(i32, String)> {
        let mut running = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
            let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(&self.0) {
                running.push((pid, line));
            }
        }
        running
    }

    /// Waits until so many sleep.
    #[track_caller]
    pub(crate) fn wait_for_sleeping(&self, count: usize) {
        let sleeping = format!("sleep {}", self.0);
        let started = now();
        loop {
            let running = self.running();
            if running.iter().filter(|(_, line)| line.starts_with(&sleeping)).count() >= count {
                return;
            }
            assert!(now() - started < Duration::from_secs(30), "{running:?}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Waits until none runs, and fails if that takes longer.
    #[track_caller]
    pub(crate) fn expect_ended_within(&self, limit: Duration) {
        let started = now();
        loop {
            let running = self.running();
            if running.is_empty() {
                return println!("all had ended after {:?}", now() - started);
            }
            if now() - started >= limit {
                for (pid, _) in &running {
                    // The test fails anyway.
                    let _ = nix::sys::signal::kill(
                        nix::unistd::Pid::from_raw(*pid),
                        nix::sys::signal::Signal::SIGKILL,
                    );
                }
                panic!("{running:?}");
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}
