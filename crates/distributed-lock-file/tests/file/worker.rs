//! Another process: this test program again, told by its environment what to do.
//!
//! Parent and worker talk by lines, so that each knows what the other has done without waiting for
//! time to pass.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const ROLE: &str = "DISTRIBUTED_LOCK_TEST_WORKER";
const DIRECTORY: &str = "DISTRIBUTED_LOCK_TEST_DIRECTORY";

/// A running worker; killed when it is dropped.
pub(crate) struct Worker {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Worker {
    pub(crate) fn start(role: &str, directory: &Path) -> Self {
        Self::start_by(Command::new(std::env::current_exe().unwrap()), role, directory)
    }

    /// Starts it with mounts of its own, which end with it; it is root there.
    pub(crate) fn start_with_mounts(role: &str, directory: &Path) -> Self {
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--user", "--map-root-user", "--mount"])
            .arg(std::env::current_exe().unwrap());
        Self::start_by(unshare, role, directory)
    }

    /// Starts it as another user, which only root can.
    ///
    /// By the kernel's link to this program: the directories above it may be closed to that user.
    pub(crate) fn start_as(role: &str, directory: &Path, user: Option<u32>) -> Self {
        let mut program = Command::new("/proc/self/exe");
        if let Some(user) = user {
            program.uid(user).gid(user);
        }
        Self::start_by(program, role, directory)
    }

    fn start_by(mut command: Command, role: &str, directory: &Path) -> Self {
        let mut child = command
            .args(["--exact", "worker::entry", "--nocapture"])
            .env(ROLE, role)
            .env(DIRECTORY, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take(), child.stdout.take().unwrap());
        Self { child, to, from: BufReader::new(from) }
    }

    /// The next line that the worker meant for us; the test harness prints others.
    pub(crate) fn hears(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.from.read_line(&mut line).unwrap(), 0, "the worker has ended");
            if let Some((_, said)) = line.split_once("worker says ") {
                return said.trim_end().to_owned();
            }
        }
    }

    pub(crate) fn expect(&mut self, said: &str) {
        assert_eq!(self.hears(), said);
    }

    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.to.as_mut().unwrap(), "{line}").unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Stops it; none of its threads runs any more when this returns.
    pub(crate) fn stop(&self) {
        self.signal(rustix::process::Signal::STOP);
        let pid = rustix::process::Pid::from_child(&self.child);
        let stopped = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::UNTRACED);
        assert!(stopped.unwrap().unwrap().1.stopped());
    }

    /// Waits for the worker's end.
    pub(crate) fn ends(mut self) {
        drop(self.to.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Already ended and reaped, in most tests.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says a line to the parent.
pub(crate) fn say(line: &str) {
    println!("worker says {line}");
}

/// The parent's next line; `None` once it has no more.
pub(crate) fn told() -> Option<String> {
    std::io::stdin().lines().next().map(Result::unwrap)
}

/// Where a worker starts. Run as a test, it has nothing to do.
#[test]
fn entry() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let directory = std::env::var_os(DIRECTORY).unwrap();
    let directory = Path::new(&directory);
    match role.as_str() {
        "holder" => crate::faults::hold(directory),
        "forking holder" => crate::faults::hold_and_fork(directory),
        "permit holder" => crate::faults::hold_permits(directory),
        "many locks" => crate::resources::many_locks(directory),
        "waiter" => crate::waiting::wait_and_count(directory),
        "exhausted" => crate::stopped_waiters::exhaust_inotify(directory),
        "first" => crate::first_start::start_first(directory),
        "later user" => crate::first_start::come_later(directory),
        "neighbour" => crate::neighbour::swap_until_told(directory),
        "mounter" => crate::moved::mount_over(directory),
        "small disk" => crate::faults::fill_a_disk(directory),
        "spinner" => crate::unlinking_peers::spin(directory),
        "unlinking spinner" => crate::unlinking_peers::spin_and_unlink(directory),
        "waiting writer" => crate::stopped_waiters::wait_to_write(directory),
        other => panic!("no such worker: {other}"),
    }
}
