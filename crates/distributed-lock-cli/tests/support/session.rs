//! Programs on a pseudoterminal.

use std::fs::File;
use std::io::Write;
use std::process::{Child, Command, ExitStatus};

use nix::pty::openpty;
use rustix::io::{FdFlags, fcntl_setfd};
use tempfile::TempDir;

use super::{Output, program};

/// Reads a line from the terminal and says it.
pub(crate) const ASK: &str = "echo $$ > $ASKING; echo ready; read line; echo got $line";

/// Waits in a script until a command that asks has stopped.
const STOPPED: &str =
    "until grep -q 'State:.T' /proc/$(cat $ASKING)/status; do sleep 0.02; done 2>/dev/null";

/// A shell that leads a session on a terminal of its own, and the other side of that.
pub(crate) struct Session {
    pub(crate) process: Child,
    pub(crate) screen: Output,
    keyboard: File,
    _asking: TempDir,
}

impl Session {
    /// Runs a script with `$DLOCK`, `$ASK`, `$STOPPED` and the locks at this URL.
    pub(crate) fn start(url: &str, script: &str) -> Self {
        let pty = openpty(None, None).unwrap();
        for side in [&pty.master, &pty.slave] {
            fcntl_setfd(side, FdFlags::CLOEXEC).unwrap();
        }
        let mut command = Command::new("setsid");
        command.args(["--ctty", "bash", "--norc", "-c", script]);
        command.env("DISTRIBUTED_LOCK_URL", url);
        command.env("DLOCK", program()).env("ASK", ASK).env("STOPPED", STOPPED);
        let asking = tempfile::tempdir().unwrap();
        command.env("ASKING", asking.path().join("pid"));
        command.stdin(pty.slave.try_clone().unwrap());
        command.stdout(pty.slave.try_clone().unwrap()).stderr(pty.slave);
        let process = command.spawn().unwrap();
        let keyboard = File::from(pty.master);
        Self {
            process,
            screen: Output::of(keyboard.try_clone().unwrap()),
            keyboard,
            _asking: asking,
        }
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }

    pub(crate) fn status(&mut self) -> i32 {
        self.wait().code().expect("an exit status")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
