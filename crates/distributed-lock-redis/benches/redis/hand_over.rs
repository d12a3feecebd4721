//! From one process's release to another process's acquire, beside one `PING`, and the same by bare
//! clients: a script that gives the key to the other and publishes that, a push, and a script by which
//! the other makes sure.
//!
//! The parent holds the lock and tells the child to acquire it. The child answers when it waits, and
//! again, with the time, when it has the lock. Both read `CLOCK_MONOTONIC`, which is the same for
//! all processes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use distributed_lock_core::traits::{LockHandle, LockProviderExt};
use distributed_lock_redis::RedisLockProvider;
use distributed_lock_testkit::servers::RedisServer;
use rustix::time::{ClockId, clock_gettime};

use crate::bare::Bare;
use crate::{report, spinner};

const BLOCKS: usize = 60;
const ROUNDS: usize = 15;
const NAME: &str = "hand-over";
const BARE_NAME: &str = "bare hand-over";

pub(crate) fn run(server: &RedisServer) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut waiter = Waiter::start("--waiter", &server.url());
    let mut bare_waiter = Waiter::start("--bare-waiter", &server.url());
    assert!(bare_waiter.acquired().is_zero(), "listening");
    runtime.block_on(async {
        let mut bare = Bare::connect(&server.url()).await;
        let provider = RedisLockProvider::builder().add_server(server.url()).build().await.unwrap();
        let queue = queue(server, &mut waiter, &provider).await;
        let (mut pings, mut bares, mut ours) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..BLOCKS {
            pings.push(ping(&mut bare).await);
            let mut times = Vec::new();
            for _ in 0..ROUNDS {
                bare.holds(BARE_NAME).await;
                let released = now();
                bare.hands_over(BARE_NAME).await;
                times.push(bare_waiter.acquired().saturating_sub(released));
            }
            bares.push(crate::median(times, Ord::cmp));
            let mut times = Vec::new();
            for _ in 0..ROUNDS {
                let held = provider.acquire_lock(NAME, None).await.unwrap();
                writeln!(waiter.to).unwrap();
                while bare.waiting(&queue).await != 1 {}
                let released = now();
                held.release().await.unwrap();
                times.push(waiter.acquired().saturating_sub(released));
            }
            ours.push(crate::median(times, Ord::cmp));
        }
        report("hand-over between processes, beside a PING", "≤ 6", &pings, &ours);
        report("the same by bare clients, beside a PING", "none", &pings, &bares);
        report("hand-over, beside bare clients", "none", &bares, &ours);
    });
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
async fn ping(bare: &mut Bare) -> Duration {
    let start = Instant::now();
    for _ in 0..100 {
        bare.ping().await;
    }
    start.elapsed() / 100
}

/// The key of those who wait, seen once.
async fn queue(server: &RedisServer, waiter: &mut Waiter, provider: &RedisLockProvider) -> String {
    let held = provider.acquire_lock(NAME, None).await.unwrap();
    writeln!(waiter.to).unwrap();
    let queue = loop {
        let queue =
            server.cli(&["KEYS", "distributed-lock/1:{distributed-lock:hand-over}:queue:*"]);
        if !queue.is_empty() {
            break queue;
        }
    };
    held.release().await.unwrap();
    waiter.acquired();
    queue
}

fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}

struct Waiter {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Waiter {
    fn start(role: &str, url: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([role, url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, to, from: BufReader::new(from) }
    }

    fn acquired(&mut self) -> Duration {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        Duration::from_nanos(line.trim_end().parse().unwrap())
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The other process: acquires whenever it is told to.
pub(crate) fn waiter(url: &str) {
    spinner::bind_to_core(std::process::id(), 0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let builder = RedisLockProvider::builder().add_server(url);
    let provider = runtime.block_on(builder.build()).unwrap();
    for line in std::io::stdin().lines() {
        line.unwrap();
        let handle = runtime.block_on(provider.acquire_lock(NAME, None)).unwrap();
        println!("{}", now().as_nanos());
        runtime.block_on(handle.release()).unwrap();
    }
}

/// The same without the library: acquires whenever it is handed the key.
pub(crate) fn bare_waiter(url: &str) {
    spinner::bind_to_core(std::process::id(), 0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut bare, mut pushes) = Bare::listening(url).await;
        println!("0");
        while pushes.recv().await.is_some() {
            bare.makes_sure(BARE_NAME).await;
            println!("{}", now().as_nanos());
        }
    });
}
