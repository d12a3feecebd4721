//! Waits for a mutex that many want at the same time.

use std::sync::Mutex;
use std::time::Duration;

use distributed_lock_core::prelude::*;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::group::Group;
use crate::{MS, SECOND};

const PROVIDERS: usize = 3;
const TASKS: usize = 24;

/// A waiter asks by itself this often, whether it is notified or not.
const FALLBACK_PERIOD: Duration = SECOND;

/// Every release notifies a waiter that then gets the lock: it is never free until a waiter asks by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mutex_under_load_is_handed_over_by_notification() {
    let group = Group::start(3);
    let mut providers = Vec::new();
    for _ in 0..PROVIDERS {
        providers.push(group.leased(30 * SECOND).await);
    }
    let (began, released, idle) = (Instant::now(), Mutex::new(None), Mutex::new(Vec::new()));
    let all = (0..TASKS).map(|task| {
        let (provider, released, idle) = (&providers[task % PROVIDERS], &released, &idle);
        async move {
            let mut waits = Vec::new();
            while began.elapsed() < 4 * SECOND {
                let asked = Instant::now();
                let handle = provider.acquire_lock("loaded", Some(30 * SECOND)).await.unwrap();
                waits.push(asked.elapsed());
                let last: Option<Instant> = released.lock().unwrap().take();
                if let Some(last) = last {
                    idle.lock().unwrap().push(last.elapsed());
                }
                *released.lock().unwrap() = Some(Instant::now());
                handle.release().await.unwrap();
            }
            waits
        }
    });
    let waits = sorted(join_all(all).await.concat());
    let idle = sorted(idle.into_inner().unwrap());
    print("waits", &waits);
    print("free beside waiters", &idle);
    // One that stalls for longer than the machine does is not handed over.
    let late = idle.iter().filter(|idle| **idle >= FALLBACK_PERIOD - 100 * MS).count();
    assert!(late <= 1, "{late} of {} were not handed over", idle.len());
}

fn sorted(mut all: Vec<Duration>) -> Vec<Duration> {
    all.sort_unstable();
    all
}

fn print(what: &str, all: &[Duration]) {
    let at = |share: usize| all[(all.len() - 1) * share / 1000];
    println!(
        "{what}: {}, median {:?}, 99 % {:?}, 99.9 % {:?}, longest {:?}",
        all.len(),
        at(500),
        at(990),
        at(999),
        at(1000)
    );
}
