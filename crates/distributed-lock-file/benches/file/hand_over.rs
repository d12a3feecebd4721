//! From one process's release to another process's acquire.
//!
//! The parent holds the lock and tells the child to acquire it. The child answers when it waits, and
//! again, with the time, when it has the lock. Both read `CLOCK_MONOTONIC`, which is the same for
//! all processes.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use distributed_lock_core::traits::{DistributedLock, LockHandle, LockProvider};
use distributed_lock_file::FileLockProvider;
use rustix::time::{ClockId, clock_gettime};

use crate::{bare, median, report, spinner};

const BLOCKS: usize = 60;
const ROUNDS: usize = 15;
const NAME: &str = "bench";

/// How long a child may take from "I am about to wait" to waiting.
const SETTLE: Duration = Duration::from_millis(2);

pub(crate) fn run() {
    let directory = tempfile::tempdir().unwrap();
    let mut children: Vec<Peer> = ["bare", "one-thread", "threads"]
        .into_iter()
        .map(|role| Peer::start(role, directory.path()))
        .collect();
    let path = lock_path(directory.path());
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..BLOCKS {
        for (child, times) in children.iter_mut().zip(&mut times) {
            let rounds = (0..ROUNDS).map(|_| child.hand_over(&path)).collect();
            times.push(median(rounds, Ord::cmp));
        }
    }
    let [bare, one, threads] = &times;
    report("hand-over between processes, current-thread runtime", 2.0, bare, one);
    report("hand-over between processes, multi-thread runtime", 2.0, bare, threads);
}

fn lock_path(directory: &Path) -> PathBuf {
    directory.join(distributed_lock_file::name::lock_file_name(NAME).unwrap())
}

fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}

struct Peer {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Peer {
    fn start(role: &str, directory: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--role", role])
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, to, from: BufReader::new(from) }
    }

    /// One hand-over from this process to the child, released by plain calls for every variant.
    #[expect(clippy::disallowed_methods, reason = "the child cannot say when it sleeps")]
    fn hand_over(&mut self, path: &Path) -> Duration {
        let held = bare::open(path);
        held.lock().unwrap();
        writeln!(self.to).unwrap();
        assert_eq!(self.line(), "waits");
        std::thread::sleep(SETTLE);
        let released = now();
        held.unlock().unwrap();
        drop(held);
        let acquired = Duration::from_nanos(self.line().parse().unwrap());
        acquired.saturating_sub(released)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The other process: acquires whenever it is told to.
pub(crate) fn child(role: &str) {
    spinner::bind_to_core(1);
    let directory = std::env::current_dir().unwrap();
    let say_waits = || println!("waits");
    let each_round = |acquire: &mut dyn FnMut()| {
        for line in std::io::stdin().lines() {
            line.unwrap();
            acquire();
        }
    };
    if role == "bare" {
        let waiter = bare::Waiter::new();
        return each_round(&mut || {
            let file = waiter.wait_and_lock(&lock_path(&directory), say_waits);
            println!("{}", now().as_nanos());
            file.unlock().unwrap();
        });
    }
    let runtime = match role {
        "one-thread" => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        _ => tokio::runtime::Builder::new_multi_thread().enable_all().build(),
    };
    let runtime = runtime.unwrap();
    let provider = FileLockProvider::builder().build(directory).unwrap();
    each_round(&mut || {
        let lock = provider.create_lock(NAME);
        let acquired = runtime.spawn(async move {
            say_waits();
            let handle = lock.acquire(None).await.unwrap();
            (now(), handle)
        });
        let (at, handle) = runtime.block_on(acquired).unwrap();
        println!("{}", at.as_nanos());
        runtime.block_on(handle.release()).unwrap();
    });
}
