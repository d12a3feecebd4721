//! Locks on a server: what is the same on each of them.

use std::process::Command;
use std::time::Duration;

use distributed_lock_testkit::history::now;
use nix::sys::signal::Signal;

use super::{HOLD, Running, dlock, output};

/// How soon after the end of `dlock` its command has ended too.
const ENDED_WITHIN: Duration = Duration::from_secs(1);

/// A lock service by its URL.
pub(crate) struct Service(pub(crate) String);

impl Service {
    /// `dlock run` with these arguments.
    pub(crate) fn run(&self, args: &[&str]) -> Command {
        let mut command = dlock();
        command.arg("run").args(args).env("DISTRIBUTED_LOCK_URL", &self.0);
        command
    }

    /// Runs it to the end: status, standard output, standard error.
    pub(crate) fn output(&self, args: &[&str]) -> (i32, String, String) {
        output(&mut self.run(args))
    }

    /// Starts a process that holds the lock until its input ends, and waits until it does.
    pub(crate) fn hold(&self, name: &str) -> Running {
        let running = Running::start(&mut self.run(&[name, "--", "sh", "-c", HOLD]));
        running.out.expect("holding");
        running
    }

    /// Row 48: kills a `dlock`; its command ends with it, and then the lock is free.
    pub(crate) fn ends_the_command_of_a_killed_dlock(&self, freed_within: Duration) {
        let script = "echo $$; exec cat";
        let mut dlock = Running::start(&mut self.run(&["killed", "--", "sh", "-c", script]));
        let command = dlock.out.expect("\n").trim().to_owned();
        assert!(runs(&command));
        dlock.signal(Signal::SIGKILL);
        dlock.wait();
        let killed = now();
        while runs(&command) {
            assert!(now() - killed < ENDED_WITHIN, "the command goes on");
            std::thread::yield_now();
        }
        println!("the command had ended {:?} after dlock", now() - killed);
        let wait = format!("{}ms", freed_within.as_millis());
        assert_eq!(self.output(&["--wait", &wait, "killed", "--", "true"]).0, 0);
        println!("the lock was free {:?} after dlock", now() - killed);
    }

    /// A command has a token, and its status is that of `dlock`.
    pub(crate) fn gives_the_command_a_token_and_its_status_back(&self) {
        let script = "test \"$DISTRIBUTED_LOCK_TOKEN\" -gt 0 && exit 7";
        let (status, _, err) = self.output(&["-q", "a token, please", "--", "sh", "-c", script]);
        assert_eq!((status, err.as_str()), (7, ""));
        let (status, _, err) = self.output(&["not there", "--", "no-such-program"]);
        assert_eq!(status, 127);
        assert!(err.contains("cannot find \"no-such-program\""), "{err}");
    }
}

/// Whether a process is there and not merely waiting to be reaped.
fn runs(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}
