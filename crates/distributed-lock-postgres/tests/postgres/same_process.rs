//! The server lets a session lock a key twice; users never see that.

use distributed_lock_core::prelude::*;
use distributed_lock_testkit::servers::PostgresServer;

use crate::observer::{HELD, Observer};
use crate::{MS, SECOND, provider};

/// Refused to one who tries, a timeout for one who waits.
async fn is_excluded<H>(tried: LockResult<Option<H>>, waited: impl Future<Output = LockResult<H>>) {
    assert!(tried.unwrap().is_none(), "granted to a second");
    assert!(matches!(waited.await, Err(LockError::Timeout(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_11_whoever_asks_twice_in_a_process_waits() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    let here = provider(&server).await;
    let soon = Some(50 * MS);
    let (one, two) = (here.create_lock("name"), here.create_lock("name"));
    let rw = here.create_reader_writer_lock("name");
    let held = one.acquire(None).await.unwrap();
    is_excluded(one.try_acquire().await, one.acquire(soon)).await;
    is_excluded(two.try_acquire().await, two.acquire(soon)).await;
    is_excluded(rw.try_acquire_write().await, rw.acquire_write(soon)).await;
    is_excluded(rw.try_acquire_read().await, rw.acquire_read(soon)).await;
    let waiting = tokio::spawn(async move { two.acquire(Some(SECOND)).await });
    held.release().await.unwrap();
    waiting.await.unwrap().unwrap().release().await.unwrap();

    let readers = [rw.acquire_read(None).await.unwrap(), rw.acquire_read(None).await.unwrap()];
    is_excluded(rw.try_acquire_write().await, rw.acquire_write(soon)).await;
    for reader in readers {
        reader.release().await.unwrap();
    }

    let semaphore = here.create_semaphore("name", 2);
    let permits = [semaphore.acquire(None).await.unwrap(), semaphore.acquire(None).await.unwrap()];
    is_excluded(semaphore.try_acquire().await, semaphore.acquire(soon)).await;
    for permit in permits {
        permit.release().await.unwrap();
    }
    observer.until(HELD, 0, SECOND).await;
}
