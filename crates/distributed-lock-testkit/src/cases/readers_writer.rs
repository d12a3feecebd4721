//! Reader-writer locks, and what they have to do with the mutex of their name.

use distributed_lock_core::traits::{
    DistributedLock, DistributedReaderWriterLock, LockHandle, LockProvider, LockProviderExt,
    ReaderWriterLockProvider,
};

use super::two_processes;
use crate::backend::Backend;
use crate::bounds::{HANDED_OVER_WITHIN, within};
use crate::polled::start_waiting;
use crate::runtimes::run;
use crate::verdicts::{granted, refused};

/// The mutex and the write lock of a name are one lock: each excludes the other, and readers.
pub fn the_mutex_is_the_write_lock(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "one lock").await;
        let mutex = here.create_lock(&name);
        for process in [&here, &there] {
            let lock = process.create_reader_writer_lock(&name);
            let held = granted(mutex.try_acquire().await);
            refused(lock.try_acquire_write().await);
            refused(lock.try_acquire_read().await);
            held.release().await.expect("a clean release");
            let held = granted(lock.try_acquire_write().await);
            refused(mutex.try_acquire().await);
            refused(lock.try_acquire_read().await);
            held.release().await.expect("a clean release");
            let held = granted(lock.try_acquire_read().await);
            refused(mutex.try_acquire().await);
            held.release().await.expect("a clean release");
            granted(mutex.try_acquire().await).release().await.expect("a clean release");
        }
    });
}

/// Readers of one process and of two hold together; a writer waits for the last of them.
pub fn readers_share_and_a_writer_waits_for_the_last(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "readers").await;
        let (lock, other) =
            (here.create_reader_writer_lock(&name), there.create_reader_writer_lock(&name));
        let readers = [
            granted(lock.try_acquire_read().await),
            granted(lock.try_acquire_read().await),
            granted(other.try_acquire_read().await),
        ];
        refused(lock.try_acquire_write().await);
        refused(other.try_acquire_write().await);
        let writing = there.create_reader_writer_lock(&name);
        let mut writer = start_waiting(async move { writing.acquire_write(None).await });
        for reader in readers {
            assert!(!writer.is_finished(), "a writer beside a reader");
            reader.release().await.expect("a clean release");
        }
        let writer = within(HANDED_OVER_WITHIN, "the writer", &mut writer).await;
        let writer = writer.expect("the waiter").expect("an endless wait");
        refused(lock.try_acquire_read().await);
        refused(here.try_acquire_lock(&name).await);
        writer.release().await.expect("a clean release");
        granted(lock.try_acquire_read().await).release().await.expect("a clean release");
    });
}

/// Readers of one process that come behind its waiting writer wait too, and a writer that gives up
/// lets them go on.
pub fn a_waiting_writer_is_not_overtaken_and_can_give_up(backend: &impl Backend) {
    run(async {
        let (here, _, name) = two_processes(backend, "writer's turn").await;
        let lock = here.create_reader_writer_lock(&name);
        let reader = granted(lock.try_acquire_read().await);
        let writing = here.create_reader_writer_lock(&name);
        let writer = start_waiting(async move { writing.acquire_write(None).await });
        refused(lock.try_acquire_read().await);
        let reading = here.create_reader_writer_lock(&name);
        let behind = start_waiting(async move { reading.acquire_read(None).await });
        writer.abort();
        let behind = within(HANDED_OVER_WITHIN, "the reader behind", behind).await;
        let behind = behind.expect("the waiter").expect("an endless wait");
        reader.release().await.expect("a clean release");
        behind.release().await.expect("a clean release");
    });
}
