//! Reader-writer locks, and what they have to do with the mutex of their name.

use std::time::Duration;

use distributed_lock_core::error::LockError;
use distributed_lock_core::traits::{
    DistributedLock, DistributedReaderWriterLock, LockHandle, LockProvider, LockProviderExt,
    Provider, ReaderWriterLockProvider,
};
use distributed_lock_core::{CancellationToken, TokenDurability};
use tokio::task::JoinSet;

use super::two_processes;
use crate::backend::Backend;
use crate::bounds::{FREED_WITHIN, HANDED_OVER_WITHIN, WATCHED_FOR, within};
use crate::polled::start_waiting;
use crate::runtimes::run;
use crate::verdicts::{assert_error, granted, refused};

/// How soon a writer has the lock although readers come and go.
const WRITER_WITHIN: Duration = Duration::from_secs(5);

/// How long each of the overlapping readers reads.
const READ: Duration = Duration::from_millis(2);

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

/// A hundred readers of two processes, of whom there is always one, do not keep out a writer.
pub fn overlapping_readers_do_not_starve_a_writer(backend: &impl Backend) {
    const READERS: usize = 100;
    run(async {
        let (here, there, name) = two_processes(backend, "overlapping readers").await;
        let writers = backend.connect().await;
        let done = CancellationToken::new();
        let mut readers = JoinSet::new();
        let first = granted(here.create_reader_writer_lock(&name).try_acquire_read().await);
        for index in 0..READERS {
            let process = if index % 2 == 0 { &here } else { &there };
            let (lock, done) = (process.create_reader_writer_lock(&name), done.clone());
            readers.spawn(async move {
                while !done.is_cancelled() {
                    let held = lock.acquire_read(None).await.expect("an endless wait");
                    tokio::time::sleep(READ).await;
                    held.release().await.expect("a clean release");
                }
            });
        }
        // The first reader stays until the writer waits, so that readers overlap from the start.
        let lock = writers.create_reader_writer_lock(&name);
        let writer = start_waiting(async move { lock.acquire_write(None).await });
        tokio::time::sleep(READ * 5).await;
        first.release().await.expect("a clean release");
        let writer = within(WRITER_WITHIN, "the writer", writer).await;
        let writer = writer.expect("the waiter").expect("an endless wait");
        refused(here.try_acquire_lock(&name).await);
        done.cancel();
        writer.release().await.expect("a clean release");
        readers.join_all().await;
    });
}

/// A writer of another process that waited in vain leaves readers unhindered.
pub fn a_writer_that_gives_up_leaves_no_trace(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "gives up").await;
        let reader = granted(here.create_reader_writer_lock(&name).try_acquire_read().await);
        let writing = there.create_reader_writer_lock(&name);
        let timeout = WATCHED_FOR;
        assert_error!(writing.acquire_write(Some(timeout)).await, LockError::Timeout(t) if t == timeout);
        let third = backend.connect().await.create_reader_writer_lock(&name);
        let another =
            third.acquire_read(Some(FREED_WITHIN)).await.expect("no writer waits any more");
        another.release().await.expect("a clean release");
        reader.release().await.expect("a clean release");
        granted(there.try_acquire_lock(&name).await).release().await.expect("a clean release");
    });
}

/// A writer's token is greater than those of the readers before it, and smaller than those of the
/// readers after it; readers at the same time have different ones.
pub fn tokens_are_ordered_where_holds_conflict(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "ordered tokens").await;
        if here.guarantees().tokens == TokenDurability::None {
            return;
        }
        let (mine, theirs) =
            (here.create_reader_writer_lock(&name), there.create_reader_writer_lock(&name));
        let mut before = None;
        for _ in 0..3 {
            let readers =
                [granted(mine.try_acquire_read().await), granted(theirs.try_acquire_read().await)];
            let mut tokens = Vec::new();
            for reader in readers {
                tokens.push(reader.fencing_token().await.expect("a token of a held lock"));
                reader.release().await.expect("a clean release");
            }
            assert_ne!(tokens[0], tokens[1], "two readers with one token");
            assert!(
                tokens.iter().all(|token| before < Some(*token)),
                "{tokens:?} after {before:?}"
            );
            let writer = granted(theirs.try_acquire_write().await);
            let token = writer.fencing_token().await.expect("a token of a held lock");
            assert!(tokens.iter().all(|reader| *reader < token), "{token} after {tokens:?}");
            before = Some(token);
            writer.release().await.expect("a clean release");
        }
    });
}
