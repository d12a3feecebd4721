//! PostgreSQL: `sqlx`'s advisory lock holds a connection of its own, which is open already.

use std::time::Duration;

use distributed_lock_core::traits::{DistributedLock, LockHandle, LockProvider};
use distributed_lock_testkit::servers::PostgresServer;
use published_core::{
    DistributedLock as PublishedLock, LockHandle as PublishedHandle,
    LockProvider as PublishedProvider,
};
use sqlx::Connection;
use sqlx::postgres::{PgAdvisoryLock, PgConnection};

use crate::{handed, report};

const BLOCKS: usize = 30;
const HAND_OVERS: usize = 60;
const NAMES: [&str; 3] = ["this library", "distributed-lock 0.2.0", "sqlx 0.8"];

pub(crate) async fn run() {
    let server = PostgresServer::start(&[]);
    uncontended(&server.url()).await;
    hand_over(&server.url()).await;
}

async fn ours(url: &str) -> distributed_lock_postgres::PostgresDistributedLock {
    let builder = distributed_lock_postgres::PostgresLockProvider::builder();
    builder.connection_string(url).build().await.unwrap().create_lock("peers lock")
}

async fn published(url: &str) -> impl PublishedLock {
    let builder = published_postgres::PostgresLockProvider::builder();
    let provider = builder.connection_string(url).build().await.unwrap();
    PublishedProvider::create_lock(&provider, "published peers lock")
}

async fn uncontended(url: &str) {
    let (ours, published) = (ours(url).await, published(url).await);
    let (sqlx, mut connection) =
        (PgAdvisoryLock::new("sqlx"), PgConnection::connect(url).await.unwrap());
    let mut blocks: [Vec<Duration>; 3] = Default::default();
    for _ in 0..BLOCKS {
        blocks[0].push(timed!(ours.acquire(None).await.unwrap().release().await.unwrap()));
        blocks[1].push(timed!({
            let handle = published.acquire(None).await.unwrap();
            PublishedHandle::release(handle).await.unwrap();
        }));
        blocks[2].push(timed!({
            let guard = sqlx.acquire(&mut connection).await.unwrap();
            guard.release_now().await.unwrap();
        }));
    }
    report("PostgreSQL: acquire + release", &NAMES, &blocks);
}

async fn hand_over(url: &str) {
    let (here, there) = (ours(url).await, ours(url).await);
    let (published_here, published_there) = (published(url).await, published(url).await);
    let sqlx = PgAdvisoryLock::new("sqlx handed");
    let (mut one, mut other) =
        (PgConnection::connect(url).await.unwrap(), PgConnection::connect(url).await.unwrap());
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..HAND_OVERS {
        let held = here.acquire(None).await.unwrap();
        let wait = there.acquire(None);
        let (time, handle) = handed(wait, async { held.release().await.unwrap() }).await;
        handle.unwrap().release().await.unwrap();
        times[0].push(time);

        let held = published_here.acquire(None).await.unwrap();
        let wait = published_there.acquire(None);
        let (time, handle) =
            handed(wait, async { PublishedHandle::release(held).await.unwrap() }).await;
        PublishedHandle::release(handle.unwrap()).await.unwrap();
        times[1].push(time);

        let held = sqlx.acquire(&mut one).await.unwrap();
        let wait = sqlx.acquire(&mut other);
        let release = async {
            held.release_now().await.unwrap();
        };
        let (time, handle) = handed(wait, release).await;
        handle.unwrap().release_now().await.unwrap();
        times[2].push(time);
    }
    report("PostgreSQL: hand-over", &NAMES, &times);
}
