//! The same locks for code that is not async.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use distributed_lock_core::background::library_runtime;
use distributed_lock_core::blocking;
use distributed_lock_core::error::LockError;
use distributed_lock_core::traits::Provider;
use tokio::runtime::{Builder, Runtime};

use crate::backend::Backend;
use crate::bounds::{FREED_WITHIN, HANDED_OVER_WITHIN, SLACK, WATCHED_FOR};
use crate::runtimes::{current_thread, multi_thread};
use crate::verdicts::{assert_error, granted, refused, unique_name};

/// It works on a thread of its own, on a blocking thread and on a worker of any runtime, also one
/// without timers.
pub fn it_works_on_any_thread(backend: &impl Backend) {
    let (here, there) = (connect(backend), connect(backend));
    let name = unique_name("blocking");
    everything_once(&here, &there, &name);
    for runtime in [current_thread(), multi_thread(), without_timers()] {
        runtime.block_on(async { everything_once(&here, &there, &name) });
    }
    let (moved, other, at) = (here.clone(), there.clone(), name.clone());
    let workers = multi_thread();
    let worker = workers.spawn(async move { everything_once(&moved, &other, &at) });
    workers.block_on(worker).expect("a worker");
    let (moved, other, at) = (here.clone(), there.clone(), name.clone());
    let thread = workers.spawn_blocking(move || everything_once(&moved, &other, &at));
    workers.block_on(thread).expect("a blocking thread");
}

fn everything_once<P: Provider>(
    here: &blocking::Provider<P>,
    there: &blocking::Provider<P>,
    name: &str,
) {
    let held = here.acquire_lock(name, None).expect("a free lock");
    assert!(!held.is_lost() && !held.lost_token().is_cancelled());
    refused(there.try_acquire_lock(name));
    held.release().expect("a clean release");
    let counted = there.with_lock(name, None, |held| {
        refused(here.try_acquire_lock(name));
        !held.is_lost()
    });
    assert!(counted.expect("a clean release"));
    drop(granted(here.try_acquire_lock(name)));
    // It waits for the release that is under way.
    drop(granted(here.try_acquire_lock(name)));
    let names = [name.to_owned(), unique_name("blocking")];
    let all = there.acquire_all(&names, Some(FREED_WITHIN)).expect("freed locks");
    assert_eq!((all.names().len(), all.is_lost()), (2, false));
    refused(here.try_acquire_lock(&names[1]));
    all.release().expect("a clean release");
    granted(here.try_acquire_lock(&names[1])).release().expect("a clean release");
}

/// A wait ends at its deadline, or soon after the release and not before it.
pub fn a_thread_waits_its_turn(backend: &impl Backend) {
    let (here, there) = (connect(backend), connect(backend));
    let name = unique_name("blocking wait");
    let held = granted(there.try_acquire_lock(&name));
    let result = here.acquire_lock(&name, Some(WATCHED_FOR));
    assert_error!(result, LockError::Timeout(after) if after == WATCHED_FOR);
    let (send, receive) = mpsc::channel();
    let lock = here.create_lock(&name);
    let waiter = thread::spawn(move || send.send(lock.acquire(None)));
    let early = receive.recv_timeout(WATCHED_FOR);
    assert!(early.is_err(), "it had the lock while it was held elsewhere: {:?}", early.map(drop));
    held.release().expect("a clean release");
    let next = receive.recv_timeout(HANDED_OVER_WITHIN + SLACK).expect("the lock in time");
    next.expect("an endless wait").release().expect("a clean release");
    waiter.join().expect("the waiter").expect("somebody listens");
}

/// A handle that is dropped releases its lock: in and outside of runtimes, and in a panic.
pub fn a_dropped_handle_releases(backend: &impl Backend) {
    let (here, there) = (connect(backend), connect(backend));
    let name = unique_name("blocking drop");
    let freed = |after| match there.acquire_lock(&name, Some(FREED_WITHIN)) {
        Ok(handle) => handle.release().expect("a clean release"),
        Err(error) => panic!("{after}: not free in time: {error:?}"),
    };
    drop(granted(here.try_acquire_lock(&name)));
    freed("outside of a runtime");
    for runtime in [current_thread(), multi_thread(), without_timers()] {
        let held = granted(here.try_acquire_lock(&name));
        runtime.block_on(async { drop(held) });
        freed("in a runtime");
    }
    let held = granted(here.try_acquire_lock(&name));
    let panicked = thread::spawn(move || {
        let _held = held;
        panic!("meant to panic");
    });
    assert!(panicked.join().is_err());
    freed("in a panic");
}

/// A shutdown tells those who hold and ends those who wait.
pub fn a_shutdown_ends_it(backend: &impl Backend) {
    let (here, there) = (connect(backend), connect(backend));
    let [name, waited_for] = [unique_name("blocking end"), unique_name("blocking end")];
    let held = granted(here.try_acquire_lock(&name));
    let elsewhere = granted(there.try_acquire_lock(&waited_for));
    let lock = here.create_lock(&waited_for);
    let (send, receive) = mpsc::channel();
    let waiter = thread::spawn(move || send.send(lock.acquire(None)));
    let early = receive.recv_timeout(WATCHED_FOR);
    assert!(early.is_err(), "it had the lock while it was held elsewhere: {:?}", early.map(drop));
    let failures = here.shutdown().expect("the library's thread");
    assert!(failures.is_empty(), "could not be released: {failures:?}");
    assert!(held.is_lost() && held.lost_token().is_cancelled(), "not told");
    assert_error!(held.release(), LockError::LockLost(_));
    let ended = receive.recv_timeout(Duration::from_secs(1)).expect("the end of the wait");
    assert_error!(ended, LockError::Cancelled);
    waiter.join().expect("the waiter").expect("somebody listens");
    elsewhere.release().expect("a clean release");
    granted(there.try_acquire_lock(&name)).release().expect("a clean release");
}

/// Readers share, a writer does not; permits are counted.
pub fn every_kind_of_lock_is_there(backend: &impl Backend) {
    let (here, there) = (connect(backend), connect(backend));
    let name = unique_name("blocking kinds");
    let locks = [&here, &there].map(|process| process.create_reader_writer_lock(&name));
    let first = match locks[0].try_acquire_read() {
        Err(LockError::Unsupported(_)) => None,
        read => Some(granted(read)),
    };
    if let Some(first) = first {
        let second = locks[1].acquire_read(None).expect("another reader");
        refused(locks[1].try_acquire_write());
        first.release().expect("a clean release");
        second.release().expect("a clean release");
        let write = locks[1].acquire_write(Some(FREED_WITHIN)).expect("no reader");
        refused(locks[0].try_acquire_read());
        write.release().expect("a clean release");
    }
    let permits = [&here, &there].map(|process| process.create_semaphore(&name, 2));
    assert_eq!((permits[0].max_count(), permits[0].name()), (2, &*name));
    let one = match permits[0].try_acquire() {
        Err(LockError::Unsupported(_)) => return,
        permit => granted(permit),
    };
    let two = permits[1].acquire(None).expect("the second permit");
    refused(permits[0].try_acquire());
    one.release().expect("a clean release");
    granted(permits[0].try_acquire()).release().expect("a clean release");
    two.release().expect("a clean release");
}

/// One more process, built as [`blocking::Provider::new`] builds it: where its thread drives it.
fn connect<B: Backend>(backend: &B) -> blocking::Provider<B::Provider> {
    let library = library_runtime().expect("the library's thread");
    let provider = library.block_on(backend.connect());
    blocking::Provider::new(|| async { Ok(provider) }).expect("the library's thread")
}

fn without_timers() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime")
}
