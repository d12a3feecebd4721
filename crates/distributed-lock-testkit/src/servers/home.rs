//! A server's directory, and the guard that ends whoever works there.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use super::{account, processes, soon};

/// What the guard does.
const GUARD: &str = include_str!("home.sh");

/// How soon a killed process is gone: only a hang takes that long.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// A private directory. Processes that work in it end, and it is removed, when it is dropped or when
/// this process dies.
#[derive(Debug)]
pub(super) struct Home {
    path: PathBuf,
    /// A process of its own, so that it lives longer than this one. It waits for the end of its
    /// input, which is the end of this process at the latest.
    guard: Child,
}

impl Home {
    /// Makes one, which belongs to the user that servers run as.
    pub(super) fn create() -> Self {
        let private = Permissions::from_mode(0o700);
        let mut directory = tempfile::Builder::new();
        let directory = directory.prefix("distributed-lock-").permissions(private).tempdir();
        // The guard removes it.
        let path = directory.expect("a temporary directory").keep();
        account::give(&path);
        let path = path.canonicalize().expect("it was just made");
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            // What a terminal sends to the tests is not for it.
            .process_group(0)
            .spawn();
        Self { path, guard: guard.expect("a shell") }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Who works here.
    pub(super) fn processes(&self) -> Vec<Pid> {
        processes::working_in(&self.path)
    }

    /// Kills whoever works here, and waits until nobody does.
    pub(super) fn kill_all(&self) {
        let all_gone = soon::within(GONE_WITHIN, || {
            let left = self.processes();
            left.iter().for_each(|pid| processes::signal(*pid, Signal::KILL));
            left.is_empty()
        });
        assert!(all_gone, "killed processes still work in {}", self.path.display());
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        // It has no other way to fail than not to have started, which was seen.
        let _ = self.guard.wait();
    }
}
