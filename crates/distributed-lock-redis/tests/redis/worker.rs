//! Another process: this test program again, told by its environment what to do.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

const ROLE: &str = "DISTRIBUTED_LOCK_TEST_WORKER";
const URL: &str = "DISTRIBUTED_LOCK_TEST_URL";

/// A running worker; killed when it is dropped.
pub(crate) struct Worker {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Worker {
    pub(crate) fn start(role: &str, url: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "worker::entry", "--nocapture"])
            .env(ROLE, role)
            .env(URL, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
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

    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.to, "{line}").unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn stop(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    pub(crate) fn go_on(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Already ended and reaped, in some tests.
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
    let url = std::env::var(URL).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match role.as_str() {
        "holder" => crate::processes::hold(&runtime, &url),
        "permit holder" => crate::processes::hold_permits(&runtime, &url),
        "many locks" => {
            drop(runtime);
            crate::resources::many_locks(&url);
        }
        "waiter" => crate::queue::wait(&runtime, &url),
        other => panic!("no such worker: {other}"),
    }
}
