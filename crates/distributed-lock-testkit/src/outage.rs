//! A service that goes away and comes back while callers wait behind their own process.

use std::sync::Arc;
use std::time::Duration;

use distributed_lock_core::background::BoxFuture;
use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_core::traits::{
    DistributedReaderWriterLock, DistributedSemaphore, LockHandle, LockProviderExt, Provider,
};

use crate::verdicts::{granted, unique_name};

/// How many tasks wait for each lock.
const TASKS: usize = 6;

/// How long they wait: longer than any outage here.
const WAITS_FOR: Option<Duration> = Some(Duration::from_secs(60));

/// How long one of them waits that gives up while the service is away.
const GIVES_UP_AFTER: Option<Duration> = Some(Duration::from_secs(2));

type Acquire = Arc<dyn Fn(Option<Duration>) -> BoxFuture<'static, LockResult<()>> + Send + Sync>;

/// Tasks wait for a mutex, a write lock, a read lock and a permit that their own provider holds; the first
/// of each gives up during the outage. `outage` takes the service away for some seconds and brings it
/// back. All others get their locks.
///
/// It does not matter whether the holders lose theirs by the outage: they release afterwards.
pub async fn waits_survive<P: Provider>(provider: &P, outage: impl AsyncFnOnce()) {
    let (mutex, locked, permits) =
        (unique_name("mutex"), unique_name("locked"), unique_name("permits"));
    let lock = provider.create_reader_writer_lock(&locked);
    let held = granted(provider.try_acquire_lock(&mutex).await);
    let written = granted(lock.try_acquire_write().await);
    let permit = granted(provider.create_semaphore(&permits, 1).try_acquire().await);

    let mut waits = Vec::new();
    for (what, acquire) in every_acquire(provider, &mutex, &locked, &permits) {
        drop(tokio::spawn(acquire(GIVES_UP_AFTER)));
        tokio::task::yield_now().await;
        waits.extend((0..TASKS).map(|_| (what, tokio::spawn(acquire(WAITS_FOR)))));
    }
    // Until the first of those that wait has asked: one whose first request fails does not wait yet.
    tokio::time::sleep(Duration::from_millis(300)).await;
    outage().await;
    // Lost by the outage, or not.
    let _ = tokio::join!(held.release(), written.release(), permit.release());
    for (what, wait) in waits {
        if let Err(error) = wait.await.expect("a task that waits") {
            panic!("the wait for the {what} ended with {error:?}");
        }
    }
}

/// Releases what was waited for.
///
/// # Errors
/// What a release may not end with: an outage can end the lock, or the request, right after the wait.
pub async fn given_back(handle: impl LockHandle) -> LockResult<()> {
    match handle.release().await {
        Err(error @ (LockError::LockLost(_) | LockError::Connection(_))) => {
            println!("granted during the outage, then: {error:?}");
            Ok(())
        }
        released => released,
    }
}

/// What acquires and releases each kind of lock.
fn every_acquire<P: Provider>(
    provider: &P,
    mutex: &str,
    locked: &str,
    permits: &str,
) -> [(&'static str, Acquire); 4] {
    let of = |acquire: Acquire| acquire;
    let (mutexes, name) = (provider.clone(), mutex.to_owned());
    let mutex = of(Arc::new(move |timeout| {
        let (provider, name) = (mutexes.clone(), name.clone());
        Box::pin(async move { given_back(provider.acquire_lock(&name, timeout).await?).await })
    }));
    let (locks, name) = (provider.clone(), locked.to_owned());
    let write = of(Arc::new(move |timeout| {
        let lock = locks.create_reader_writer_lock(&name);
        Box::pin(async move { given_back(lock.acquire_write(timeout).await?).await })
    }));
    let (locks, name) = (provider.clone(), locked.to_owned());
    let read = of(Arc::new(move |timeout| {
        let lock = locks.create_reader_writer_lock(&name);
        Box::pin(async move { given_back(lock.acquire_read(timeout).await?).await })
    }));
    let (semaphores, name) = (provider.clone(), permits.to_owned());
    let permit = of(Arc::new(move |timeout| {
        let semaphore = semaphores.create_semaphore(&name, 1);
        Box::pin(async move { given_back(semaphore.acquire(timeout).await?).await })
    }));
    [("mutex", mutex), ("write lock", write), ("read lock", read), ("permit", permit)]
}
