//! Random load: tasks that acquire, write, hold and release.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::command::Target;
use super::hold::{Held, Leaving, Request, Site, TokenIsDrawn};
use super::journal::say;
use super::random::Random;

/// Attempts below are for commands.
const FIRST_ATTEMPT: u64 = 1 << 32;

/// The longest that an acquire waits.
const LONGEST_WAIT: Duration = Duration::from_millis(60);

/// The longest that a lock is held, mostly.
const LONGEST_HOLD: Duration = Duration::from_millis(5);

/// The longest that it is held by one holder in fifty: long enough to be told a loss before.
const LONGEST_LONG_HOLD: Duration = Duration::from_millis(250);

/// The longest that a task rests between two acquires.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// How many acquires of a hundred are dropped before they end, if they take long.
const DROPPED: u64 = 5;

/// Tasks under way.
#[derive(Debug)]
pub(super) struct Load {
    tasks: JoinSet<()>,
    ends: watch::Sender<bool>,
}

impl Load {
    pub(super) fn start(site: &Site, seed: u64, tasks: u64, targets: Vec<Target>) -> Self {
        let (ends, ending) = watch::channel(false);
        let targets: Arc<[Target]> = targets.into();
        let attempts = Arc::new(AtomicU64::new(FIRST_ATTEMPT));
        let mut load = Self { tasks: JoinSet::new(), ends };
        let mut seeds = Random::new(seed);
        for _ in 0..tasks {
            let task = Task {
                site: site.clone(),
                targets: Arc::clone(&targets),
                attempts: Arc::clone(&attempts),
                random: Random::new(seeds.number()),
            };
            load.tasks.spawn(task.run(ending.clone()));
        }
        load
    }

    /// Ends the tasks, each after what it is doing, and says so.
    pub(super) async fn rest(mut self) {
        self.ends.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            // A panic in a task is one of this program.
            ended.expect("the task does not panic");
        }
        say("resting");
    }
}

struct Task {
    site: Site,
    targets: Arc<[Target]>,
    attempts: Arc<AtomicU64>,
    random: Random,
}

impl Task {
    async fn run(mut self, ending: watch::Receiver<bool>) {
        while !*ending.borrow() {
            let Some(request) = self.request() else { return };
            if let Some(held) = self.acquire(request).await {
                self.use_it(held).await;
            }
            sleep(self.random.up_to(LONGEST_PAUSE)).await;
        }
    }

    fn request(&mut self) -> Option<Request> {
        let target = self.random.pick(&self.targets)?;
        let primitive = *self.random.pick(&target.primitives)?;
        // One in four only tries.
        let tries = self.random.percent(25);
        let timeout = if tries { Duration::ZERO } else { self.random.up_to(LONGEST_WAIT) };
        let drawn = self.random.percent(70);
        Some(Request {
            attempt: self.attempts.fetch_add(1, Ordering::Relaxed),
            primitive,
            timeout,
            lock: target.lock.clone(),
            token: if drawn { TokenIsDrawn::AtOnce } else { TokenIsDrawn::ToWrite },
        })
    }

    async fn acquire(&mut self, request: Request) -> Option<Held> {
        let acquire = self.site.acquire(request);
        if self.random.percent(DROPPED) {
            return timeout(self.random.up_to(LONGEST_WAIT / 4), acquire).await.ok().flatten();
        }
        acquire.await
    }

    async fn use_it(&mut self, mut held: Held) {
        if self.random.percent(80) {
            held.write().await;
        }
        let longest = if self.random.percent(2) { LONGEST_LONG_HOLD } else { LONGEST_HOLD };
        tokio::select! {
            () = sleep(self.random.up_to(longest)) => {}
            () = held.lost() => {}
        }
        if self.random.percent(20) {
            held.write().await;
        }
        let drops = self.random.percent(10);
        held.leave(if drops { Leaving::DropsTheHandle } else { Leaving::Releases }).await;
    }
}
