//! Random use over links that stall: every mode of one name, with timeouts and cancellations.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_postgres::PostgresLockProvider;
use distributed_lock_testkit::proxy::{FaultProxy, Way};
use distributed_lock_testkit::servers::PostgresServer;
use distributed_lock_testkit::worker::random::Random;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::modes::Mode;
use crate::observer::{HELD, Observer, QUEUED};
use crate::{MS, SECOND};

/// How long by default; the environment's `STRESS_SECONDS` if it is there.
const LASTS: Duration = Duration::from_secs(10);

const PROCESSES: u64 = 3;
const TASKS: u64 = 8;

/// A stall is shorter than what a keepalive bears, so that nothing is lost.
const LONGEST_STALL: Duration = Duration::from_millis(3500);

/// How soon all is free when the links work: a keepalive, a clean-up and a fallback period.
const QUIET_WITHIN: Duration = Duration::from_secs(12);

/// Who holds, as the tasks see it.
#[derive(Default)]
struct Holders {
    exclusive: AtomicI64,
    shared: AtomicI64,
    permits: AtomicI64,
}

impl Holders {
    fn begin(&self, mode: Mode) {
        match mode {
            Mode::Mutex | Mode::Write => {
                assert_eq!(self.exclusive.fetch_add(1, Ordering::SeqCst), 0, "two exclusive holds");
                assert_eq!(self.shared.load(Ordering::SeqCst), 0, "a reader beside a writer");
            }
            Mode::Read => {
                self.shared.fetch_add(1, Ordering::SeqCst);
                assert_eq!(self.exclusive.load(Ordering::SeqCst), 0, "a writer beside a reader");
            }
            Mode::Permit => {
                assert_eq!(self.permits.fetch_add(1, Ordering::SeqCst), 0, "two with one permit");
            }
        }
    }

    fn end(&self, mode: Mode) {
        let counter = match mode {
            Mode::Mutex | Mode::Write => &self.exclusive,
            Mode::Read => &self.shared,
            Mode::Permit => &self.permits,
        };
        counter.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn use_at_random(
    here: PostgresLockProvider,
    holders: Arc<Holders>,
    seed: u64,
    until: Instant,
) -> u64 {
    let mut random = Random::new(seed);
    let mut acquired = 0;
    while Instant::now() < until {
        let mode = Mode::ALL[usize::try_from(random.below(4)).unwrap()];
        let longest = if random.below(4) == 0 { 4 * SECOND } else { 40 * MS };
        let waits = random.up_to(longest);
        let result = match random.below(3) {
            // Dropped at some moment.
            0 => match timeout(waits, mode.acquire(&here, "name", None)).await {
                Ok(result) => result.map(Some),
                Err(_) => continue,
            },
            1 => mode.try_acquire(&here, "name").await,
            _ => mode.acquire(&here, "name", Some(waits)).await.map(Some),
        };
        let handle = match result {
            Ok(Some(handle)) => handle,
            Ok(None) | Err(LockError::Timeout(_)) => continue,
            // A stall is longer than an operation may take.
            Err(LockError::Connection(_)) => continue,
            Err(error) => panic!("{mode:?}: {error:?}"),
        };
        assert!(!handle.is_lost(), "lost without a fault that ends sessions");
        acquired += 1;
        holders.begin(mode);
        sleep(random.up_to(3 * MS)).await;
        holders.end(mode);
        if random.below(2) == 0 {
            // Not answered in time, perhaps; the background goes on.
            drop(handle.release().await);
        }
    }
    acquired
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_49_random_use_over_links_that_stall_leaves_nothing_and_never_overlaps() {
    let seconds = std::env::var("STRESS_SECONDS").map(|text| text.parse().unwrap());
    let lasts = seconds.map_or(LASTS, Duration::from_secs);
    let server = PostgresServer::start(&[("max_connections", "200")]);
    let observer = Observer::of(&server).await;
    let holders = Arc::new(Holders::default());
    let until = Instant::now() + lasts;
    let (mut tasks, mut proxies) = (JoinSet::new(), Vec::new());
    for process in 0..PROCESSES {
        let proxy = FaultProxy::start(server.address());
        let builder =
            PostgresLockProvider::builder().connection_string(server.url_by(proxy.port()));
        let here = builder.use_transaction(process == 2).build().await.unwrap();
        for task in 0..TASKS {
            let seed = process * TASKS + task;
            tasks.spawn(use_at_random(here.clone(), Arc::clone(&holders), seed, until));
        }
        proxies.push(proxy);
    }
    let mut random = Random::new(49);
    while Instant::now() < until {
        sleep(random.up_to(SECOND)).await;
        let proxy = &proxies[usize::try_from(random.below(PROCESSES)).unwrap()];
        let way = if random.below(2) == 0 { Way::ToServer } else { Way::ToClient };
        proxy.stall(way);
        sleep(random.up_to(LONGEST_STALL)).await;
        proxy.heal();
    }
    let mut acquired = 0;
    while let Some(task) = tasks.join_next().await {
        acquired += task.unwrap();
    }
    println!("{acquired} acquired");
    assert!(acquired >= 100, "{acquired} acquired");
    observer.until(QUEUED, 0, QUIET_WITHIN).await;
    observer.until(HELD, 0, QUIET_WITHIN).await;
}
