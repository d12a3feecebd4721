//! Waiters that do not run, and a kernel that has no inotify instance to give.

use std::path::Path;
use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_testkit::faults::Call;
use rustix::process::Signal;
use tokio::time::Instant;

use crate::provider;
use crate::worker::{Worker, say, told};

/// Three fallback periods and three seconds.
const BOUND: Duration = Duration::from_secs(6);

/// A worker that waits for the write lock, says so, and says when it has got it.
pub(crate) fn wait_to_write(directory: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let locks = provider(directory).create_reader_writer_lock("name");
    let waiting = runtime.spawn(async move { locks.acquire_write(None).await.unwrap() });
    while !turnstile_is_locked(directory) {
        std::thread::yield_now();
    }
    say("waits");
    let held = runtime.block_on(waiting).unwrap();
    say("writes");
    told();
    runtime.block_on(held.release()).unwrap();
    say("released");
}

fn turnstile_is_locked(directory: &Path) -> bool {
    let path = crate::lock_path(directory, "name").with_extension("turnstile");
    std::fs::File::open(path).is_ok_and(|file| file.try_lock().is_err())
}

/// A worker that waits for the write lock and is stopped; it holds the turnstile.
fn stopped_writer(directory: &Path) -> Worker {
    let mut writer = Worker::start("waiting writer", directory);
    writer.expect("waits");
    writer.stop();
    writer
}

/// Continues it: it gets the lock in its turn.
fn continue_and_end(mut writer: Worker) {
    writer.signal(Signal::CONT);
    writer.expect("writes");
    writer.tell("release");
    writer.expect("released");
    writer.ends();
}

#[tokio::test]
async fn row_52_a_stopped_writer_does_not_keep_readers_out_of_a_free_lock() {
    let directory = tempfile::tempdir().unwrap();
    let held = provider(directory.path()).acquire_lock("name", None).await.unwrap();
    let writer = stopped_writer(directory.path());
    let reader = provider(directory.path()).create_reader_writer_lock("name");
    let waiting = tokio::spawn({
        let reader = reader.clone();
        async move { reader.acquire_read(Some(4 * BOUND)).await }
    });
    held.release().await.unwrap();
    let free = Instant::now();
    let read = waiting.await.unwrap().unwrap();
    assert!(free.elapsed() <= BOUND, "{:?}", free.elapsed());
    // From then on it is in nobody's way, also not of those who only try.
    let beside = provider(directory.path()).create_reader_writer_lock("name");
    beside.try_acquire_read().await.unwrap().expect("readers share").release().await.unwrap();
    read.release().await.unwrap();
    let write = beside.try_acquire_write().await.unwrap().expect("free");
    write.release().await.unwrap();
    continue_and_end(writer);
}

#[tokio::test]
async fn row_52_a_stopped_writer_does_not_keep_readers_from_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let locks = || provider(directory.path()).create_reader_writer_lock("name");
    let first = locks().acquire_read(None).await.unwrap();
    let writer = stopped_writer(directory.path());
    let stopped = Instant::now();
    let second = locks().acquire_read(Some(4 * BOUND)).await.unwrap();
    assert!(stopped.elapsed() <= BOUND, "{:?}", stopped.elapsed());
    drop((first, second));
    continue_and_end(writer);
}

#[tokio::test]
async fn row_52_a_try_passes_a_writer_that_was_stopped_long_ago() {
    let directory = tempfile::tempdir().unwrap();
    let held = provider(directory.path()).acquire_lock("name", None).await.unwrap();
    let writer = stopped_writer(directory.path());
    held.release().await.unwrap();
    tokio::time::sleep(BOUND).await;
    let locks = provider(directory.path()).create_reader_writer_lock("name");
    let read = locks.try_acquire_read().await.unwrap().expect("nobody holds");
    read.release().await.unwrap();
    continue_and_end(writer);
}

/// The queue has its order again: a live writer is not starved by readers that overlap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_52_a_live_writer_behind_a_stopped_one_is_not_starved() {
    let directory = tempfile::tempdir().unwrap();
    let first = provider(directory.path()).create_reader_writer_lock("name");
    let first = first.acquire_read(None).await.unwrap();
    let writer = stopped_writer(directory.path());
    let readers = (0..3).map(|number| {
        let locks = provider(directory.path()).create_reader_writer_lock("name");
        tokio::spawn(async move {
            // Two of three overlap at any time.
            tokio::time::sleep(Duration::from_millis(100 * number)).await;
            loop {
                let read = locks.acquire_read(None).await.unwrap();
                tokio::time::sleep(Duration::from_millis(300)).await;
                read.release().await.unwrap();
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    let live = provider(directory.path()).create_reader_writer_lock("name");
    let asked = Instant::now();
    let waiting = tokio::spawn(async move { live.acquire_write(Some(4 * BOUND)).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    first.release().await.unwrap();
    let written = waiting.await.unwrap().unwrap();
    assert!(asked.elapsed() <= BOUND + Duration::from_secs(5), "{:?}", asked.elapsed());
    written.release().await.unwrap();
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    continue_and_end(writer);
}

/// A writer that waits for long and runs is not passed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_39_a_writer_that_waits_for_long_keeps_its_turn() {
    let directory = tempfile::tempdir().unwrap();
    let locks = || provider(directory.path()).create_reader_writer_lock("name");
    let read = locks().acquire_read(None).await.unwrap();
    let mut writer = Worker::start("waiting writer", directory.path());
    writer.expect("waits");
    let refused = locks().acquire_read(Some(BOUND)).await;
    assert!(refused.is_err(), "the writer comes first");
    assert!(locks().try_acquire_read().await.unwrap().is_none());
    read.release().await.unwrap();
    writer.expect("writes");
    writer.tell("release");
    writer.expect("released");
    writer.ends();
}

/// How many inotify instances this user namespace may have.
const INSTANCES: &str = "/proc/sys/user/max_inotify_instances";

/// A worker whose provider is built and used while no instance is left; later there are some.
pub(crate) fn exhaust_inotify(directory: &Path) {
    std::fs::write(INSTANCES, "0").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (waiter, script) = crate::waiting::counted(directory);
        let holder = provider(directory);
        let held = holder.acquire_lock("name", None).await.unwrap();
        let waiting = {
            let waiter = waiter.clone();
            tokio::spawn(async move { waiter.acquire_lock("name", None).await.unwrap() })
        };
        let other = holder.acquire_lock("other", None).await.unwrap();
        std::fs::remove_file(crate::lock_path(directory, "other")).unwrap();
        let removed = Instant::now();
        other.lost_token().cancelled().await;
        assert!(removed.elapsed() <= Duration::from_millis(1100), "{:?}", removed.elapsed());

        std::fs::write(INSTANCES, "100").unwrap();
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let tries = script.calls(Call::TryAcquire);
        held.release().await.unwrap();
        let released = Instant::now();
        let next = waiting.await.unwrap();
        say(&format!("woken after {} ms", released.elapsed().as_millis()));
        assert!(script.calls(Call::TryAcquire) > tries);
        std::fs::remove_file(crate::lock_path(directory, "name")).unwrap();
        let removed = Instant::now();
        next.lost_token().cancelled().await;
        say(&format!("notified after {} ms", removed.elapsed().as_millis()));
    });
}

#[test]
fn a_provider_asks_again_when_there_was_no_inotify_instance_left() {
    let mut times = Vec::new();
    for _ in 0..3 {
        let directory = tempfile::tempdir().unwrap();
        let mut worker = Worker::start_with_mounts("exhausted", directory.path());
        let millis = |said: String| said.split(' ').rev().nth(1).unwrap().parse::<u64>().unwrap();
        times.push(millis(worker.hears()) + millis(worker.hears()));
        worker.ends();
    }
    times.sort_unstable();
    assert!(times[1] <= 100, "polled, not woken: {times:?} ms");
}
