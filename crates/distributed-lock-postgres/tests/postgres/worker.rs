//! Another process: this test program again, told by its environment what to do.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const ROLE: &str = "DISTRIBUTED_LOCK_TEST_ROLE";
const URL: &str = "DISTRIBUTED_LOCK_TEST_URL";

/// A running worker; killed when it is dropped.
pub(crate) struct Worker {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Worker {
    pub(crate) fn start(role: &str, url: &str) -> Self {
        Self::start_by(Command::new(std::env::current_exe().unwrap()), role, url)
    }

    /// Starts it with a network of its own, which ends with it.
    pub(crate) fn start_with_network(role: &str) -> Self {
        let mut unshare = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            unshare.args(["--user", "--map-current-user", "--keep-caps"]);
        }
        unshare.arg("--net").arg(std::env::current_exe().unwrap());
        Self::start_by(unshare, role, "")
    }

    fn start_by(mut command: Command, role: &str, url: &str) -> Self {
        let mut child = command
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
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Already ended, in some tests.
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
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        match role.as_str() {
            "many locks" => crate::many_locks::hold(&url).await,
            "much use" => crate::resources::use_much(&url).await,
            "partition" => crate::partition::be_partitioned().await,
            other => panic!("no such worker: {other}"),
        }
    });
}
