//! Readers whose task does not go on with their acquire.

use distributed_lock_core::traits::{
    DistributedReaderWriterLock, LockHandle, ReaderWriterLockProvider,
};
use tokio::time::Instant;

use super::two_processes;
use crate::backend::Backend;
use crate::bounds::{OTHERS_GO_ON_WITHIN, WATCHED_FOR};
use crate::polled::Polled;
use crate::runtimes::run;
use crate::verdicts::granted;

/// A reader that waits behind a writer and is left alone holds up neither writers nor readers.
pub fn a_reader_that_is_left_alone_holds_up_no_other(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "reader left alone").await;
        let (lock, other) =
            (here.create_reader_writer_lock(&name), there.create_reader_writer_lock(&name));
        let held = granted(other.try_acquire_write().await);
        let mut alone = Polled::new(lock.acquire_read(None));
        let established = Instant::now() + WATCHED_FOR;
        while Instant::now() < established {
            assert!(alone.poll().is_pending(), "acquired while it was held");
            alone.woken(WATCHED_FOR / 10).await;
        }
        held.release().await.expect("a clean release");
        let writer = other.acquire_write(Some(OTHERS_GO_ON_WITHIN)).await;
        writer.expect("the write lock, in time").release().await.expect("a clean release");
        let reader = other.acquire_read(Some(OTHERS_GO_ON_WITHIN)).await;
        reader.expect("a read lock, in time").release().await.expect("a clean release");
        let handle = alone.finish().await.expect("polled again, it gets the lock");
        handle.release().await.expect("a clean release");
    });
}
