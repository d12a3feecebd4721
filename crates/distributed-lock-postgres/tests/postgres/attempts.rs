//! Requests whose answers come late: the attempt that sent them adopts or undoes what they bring.

use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_postgres::PostgresLockProvider;
use distributed_lock_testkit::proxy::{FaultProxy, Way};
use distributed_lock_testkit::servers::PostgresServer;

use crate::modes::Mode;
use crate::observer::{HELD, Observer, QUEUED};
use crate::{MS, SECOND, provider};

/// Longer than an operation may take, so that the engine gives up waiting for the answer.
const STALLED_FOR: Duration = Duration::from_millis(3400);

/// The waiting session, or that of the semaphore's waiter at the head of its queue.
const WAITERS: &str = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' \
     AND (NOT granted OR pid IN (SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%'))";

async fn by(proxy: &FaultProxy, server: &PostgresServer) -> PostgresLockProvider {
    let url = server.url_by(proxy.port());
    PostgresLockProvider::builder().connection_string(url).build().await.unwrap()
}

/// The waiter's session ends, so it asks by a try; the answer, a grant, comes later than the engine
/// waits for it, and the waiter is about to wait on another session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_49_a_waiter_does_not_wait_for_what_its_own_late_try_brought() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    for mode in Mode::ALL {
        let proxy = FaultProxy::start(server.address());
        let (here, there) = (by(&proxy, &server).await, provider(&server).await);
        let held = mode.opposite().acquire(&there, "name", None).await.unwrap();
        let waiter = here.clone();
        let waiting = tokio::spawn(async move { mode.acquire(&waiter, "name", None).await });
        if mode == Mode::Permit {
            observer.until(HELD, mode.granted_while_one_waits(), 5 * SECOND).await;
            tokio::time::sleep(100 * MS).await;
        } else {
            observer.until(QUEUED, 1, 5 * SECOND).await;
        }
        observer.run(WAITERS).await;
        tokio::time::sleep(150 * MS).await;
        held.release().await.unwrap();
        proxy.stall(Way::ToClient);
        tokio::time::sleep(STALLED_FOR).await;
        proxy.heal();
        let granted = tokio::time::timeout(10 * SECOND, waiting).await;
        let granted = granted.unwrap_or_else(|_| panic!("{mode:?}: waits for itself"));
        let granted = granted.unwrap().unwrap();
        observer.until(QUEUED, 0, SECOND).await;
        assert_eq!(observer.number(HELD).await, 1, "{mode:?}: one lock, and no ghost");
        granted.release().await.unwrap();
        observer.until(HELD, 0, SECOND).await;
        let next = mode.opposite().try_acquire(&there, "name").await.unwrap();
        next.unwrap_or_else(|| panic!("{mode:?}: nobody holds it")).release().await.unwrap();
    }
}
