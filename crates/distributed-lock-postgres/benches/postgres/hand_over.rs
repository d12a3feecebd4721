//! From one process's release to another process's acquire.
//!
//! The parent holds the lock and tells the child to acquire it, looks at the server until it waits, and
//! releases. The child answers with the time when it has the lock. Both read `CLOCK_MONOTONIC`, which is
//! the same for all processes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use distributed_lock_core::traits::{LockHandle, LockProviderExt};
use distributed_lock_postgres::PostgresAdvisoryLockKey;
use distributed_lock_testkit::servers::PostgresServer;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

use crate::bare::Bare;
use crate::{median, provider, report, runtimes, spinner};

const BLOCKS: usize = 60;
const ROUNDS: usize = 15;
const NAME: &str = "from process to process";
const ROLES: [&str; 3] = ["bare", "current-thread", "multi-thread"];

pub(crate) fn run(server: &PostgresServer) {
    let [(_, runtime), _] = runtimes();
    runtime.block_on(async {
        let (holder, watcher) =
            (Bare::connect(&server.url()).await, Bare::connect(&server.url()).await);
        let mut peers = ROLES.map(|role| Peer::start(role, server));
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..BLOCKS {
            for (peer, times) in peers.iter_mut().zip(&mut times) {
                let mut rounds = Vec::new();
                for _ in 0..ROUNDS {
                    rounds.push(peer.hand_over(&holder, &watcher).await);
                }
                times.push(median(rounds, Ord::cmp));
            }
        }
        let [bare, current_thread, multi_thread] = &times;
        for (name, ours) in [(ROLES[1], current_thread), (ROLES[2], multi_thread)] {
            report(&format!("hand-over between processes, {name} runtime"), "≤ 1.5", bare, ours);
        }
    });
}

fn key() -> i64 {
    match PostgresAdvisoryLockKey::from_name(NAME, true).unwrap() {
        PostgresAdvisoryLockKey::Single(key) => key,
        PostgresAdvisoryLockKey::Pair(..) => unreachable!("the name is too long"),
    }
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
    fn start(role: &str, server: &PostgresServer) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--role", role, "--url", &server.url()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, to, from: BufReader::new(from) }
    }

    /// One hand-over from this process to the child, released by the bare client for every variant.
    async fn hand_over(&mut self, holder: &Bare, watcher: &Bare) -> Duration {
        holder.lock(key()).await;
        writeln!(self.to).unwrap();
        while watcher.waiting().await == 0 {}
        let released = now();
        holder.unlock(key()).await;
        let acquired = Duration::from_nanos(self.line().parse().unwrap());
        assert_eq!(self.line(), "released");
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
pub(crate) fn child(role: &str, url: &str) {
    spinner::bind_to_core(std::process::id(), 0);
    let [one, other] = runtimes();
    if role == "bare" {
        let bare = one.1.block_on(Bare::connect(url));
        return each_round(&one.1, async || {
            bare.lock(key()).await;
            println!("{}", now().as_nanos());
            bare.unlock(key()).await;
        });
    }
    let (_, runtime) = if role == one.0 { one } else { other };
    let provider = runtime.block_on(provider(url));
    each_round(&runtime, async || {
        let handle = provider.acquire_lock(NAME, None).await.unwrap();
        println!("{}", now().as_nanos());
        handle.release().await.unwrap();
    });
}

/// Runs a round for each line of the input.
fn each_round(runtime: &Runtime, mut round: impl AsyncFnMut()) {
    for line in std::io::stdin().lines() {
        line.unwrap();
        runtime.block_on(round());
        println!("released");
    }
}
