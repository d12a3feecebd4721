//! What is left after very many locks: nothing.

use std::future::Future;
use std::task::{Context, Waker};

use distributed_lock_core::prelude::*;

use crate::provider;

/// Resident memory in bytes.
fn memory() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let resident: u64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
    resident * 4096
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Memory and descriptors are the whole process's, so this has a process of its own.
pub(crate) fn many_locks(directory: &std::path::Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let provider = provider(directory);
        let held = provider.acquire_lock("held", None).await.unwrap();
        let mut after_a_tenth = None;
        for tenth in 0..10 {
            for number in 0..10_000 {
                let name = format!("name {}", number % 100);
                let handle = provider.acquire_lock(&name, None).await.unwrap();
                if number % 20 == 0 {
                    drop(handle);
                    let lock = provider.create_lock("held");
                    let mut cancelled = Box::pin(lock.acquire(None));
                    assert!(
                        cancelled
                            .as_mut()
                            .poll(&mut Context::from_waker(Waker::noop()))
                            .is_pending()
                    );
                } else {
                    handle.release().await.unwrap();
                }
            }
            if tenth == 0 {
                after_a_tenth = Some((memory(), descriptors()));
            }
        }
        held.release().await.unwrap();
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let (memory_before, descriptors_before) = after_a_tenth.unwrap();
        // The held lock's descriptor is gone.
        assert_eq!(descriptors(), descriptors_before - 1);
        let grown = memory().saturating_sub(memory_before);
        assert!(grown <= 2 << 20, "{grown} bytes more than after the first tenth");
        assert_eq!(tasks, 1, "the reader of file events, and nothing else");
        crate::worker::say(&format!("grown by {grown} bytes"));
    });
}

#[test]
fn row_47_many_locks_leave_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut worker = crate::worker::Worker::start("many locks", directory.path());
    println!("{}", worker.hears());
    worker.ends();
}
