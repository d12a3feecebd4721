//! Waiting is pushed: attempts are counted, not assumed.

use std::path::Path;
use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_core::{DriverProvider, Options};
use distributed_lock_file::{FileDriver, FileLockProvider};
use distributed_lock_testkit::faults::{Call, FaultyDriver, Script};

use crate::provider;
use crate::worker::{Worker, say, told};

const WATCHED: Duration = Duration::from_secs(10);
/// After this all waiters wait.
const SETTLED: Duration = Duration::from_secs(1);

/// One attempt for each fallback period of a second; a window of ten may see the end of eleven.
fn most_attempts(since: tokio::time::Instant) -> u64 {
    since.elapsed().as_secs() + 1
}

/// A provider whose attempts are counted.
pub(crate) fn counted(directory: &Path) -> (DriverProvider<FaultyDriver<FileDriver>>, Script) {
    let script = Script::default();
    let driver = FileLockProvider::builder().build_driver(directory).unwrap();
    let provider =
        DriverProvider::new(FaultyDriver::new(driver, script.clone()), Options::default());
    (provider, script)
}

/// A worker that waits for the mutex and says how often it has tried, each time it is asked.
pub(crate) fn wait_and_count(directory: &Path) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    let (provider, script) = counted(directory);
    runtime.spawn(async move { drop(provider.acquire_lock("name", None).await) });
    while told().is_some() {
        say(&script.calls(Call::TryAcquire).to_string());
    }
}

#[tokio::test]
async fn fifty_processes_each_try_at_most_once_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let held = provider(directory.path()).acquire_lock("name", None).await.unwrap();
    let mut workers: Vec<_> = (0..50).map(|_| Worker::start("waiter", directory.path())).collect();
    let mut count = || -> Vec<u64> {
        workers.iter_mut().for_each(|worker| worker.tell("count"));
        workers.iter_mut().map(|worker| worker.hears().parse().unwrap()).collect()
    };
    while count().contains(&0) {}
    tokio::time::sleep(SETTLED).await;
    let since = tokio::time::Instant::now();
    let before = count();
    tokio::time::sleep(WATCHED).await;
    let attempts: Vec<u64> = count().iter().zip(before).map(|(now, then)| now - then).collect();
    println!("attempts of 50 processes in 10 s: {attempts:?}");
    assert!(attempts.iter().all(|attempts| *attempts <= most_attempts(since)), "{attempts:?}");
    held.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_or_fifty_tasks_in_each_primitive_try_at_most_once_a_second_together() {
    let directory = tempfile::tempdir().unwrap();
    let holder = provider(directory.path());
    let _writer = holder.create_reader_writer_lock("written").acquire_write(None).await.unwrap();
    let _reader = holder.create_reader_writer_lock("read").acquire_read(None).await.unwrap();
    let _permit = holder.create_semaphore("permits", 1).acquire(None).await.unwrap();

    let mut counts = Vec::new();
    for tasks in [1, 50] {
        for what in ["mutex", "read", "write", "permit"] {
            let (provider, script) = counted(directory.path());
            for _ in 0..tasks {
                let provider = provider.clone();
                tokio::spawn(async move {
                    let readers = provider.create_reader_writer_lock("written");
                    let writers = provider.create_reader_writer_lock("read");
                    let permits = provider.create_semaphore("permits", 1);
                    match what {
                        "mutex" => drop(provider.acquire_lock("written", None).await),
                        "read" => drop(readers.acquire_read(None).await),
                        "write" => drop(writers.acquire_write(None).await),
                        _ => drop(permits.acquire(None).await),
                    }
                });
            }
            counts.push((tasks, what, script));
        }
    }
    tokio::time::sleep(SETTLED).await;
    let tries = |script: &Script| script.calls(Call::TryAcquire);
    let since = tokio::time::Instant::now();
    let before: Vec<u64> = counts.iter().map(|(_, _, script)| tries(script)).collect();
    tokio::time::sleep(WATCHED).await;
    for ((tasks, what, script), before) in counts.iter().zip(before) {
        let attempts = tries(script) - before;
        println!("{tasks} waiting for a {what}: {attempts} attempts in 10 s");
        assert!(
            attempts <= most_attempts(since),
            "{tasks} waiting for a {what}: {attempts} attempts"
        );
        assert!(attempts >= 5, "{tasks} waiting for a {what} look again each second: {attempts}");
    }
}
