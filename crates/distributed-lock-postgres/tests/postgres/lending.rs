//! Sessions that are used for a moment, and sessions that wait: never the same at the same time.

use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_postgres::{PostgresLockProvider, PostgresLockProviderBuilder};
use distributed_lock_testkit::proxy::{FaultProxy, Way};
use distributed_lock_testkit::servers::PostgresServer;
use tokio::time::Instant;

use crate::modes::Mode;
use crate::observer::{Observer, QUEUED};
use crate::{MS, SECOND, provider};

/// Each way.
const LATENCY: Duration = Duration::from_millis(10);

/// How long readers join without a probe.
const FRESH_FOR: Duration = Duration::from_millis(100);

/// A reader that must probe takes this many round trips and perhaps a new connection.
const PROBED_WITHIN: Duration = Duration::from_millis(1500);

fn by(proxy: &FaultProxy, server: &PostgresServer) -> PostgresLockProviderBuilder {
    PostgresLockProvider::builder().connection_string(server.url_by(proxy.port()))
}

/// A session has just become idle; a reader of one name probes while a waiter for another name takes
/// a session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_49_a_reader_s_probe_is_never_behind_a_wait_for_another_name() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    let there = provider(&server).await;
    for use_transaction in [false, true] {
        for (round, mode) in (0..12).zip(Mode::ALL.iter().cycle()) {
            let proxy = FaultProxy::start(server.address());
            let here = by(&proxy, &server).use_transaction(use_transaction).build().await.unwrap();
            for way in [Way::ToServer, Way::ToClient] {
                proxy.delay(way, LATENCY, Duration::ZERO);
            }
            let shared = here.create_reader_writer_lock("shared");
            let reader = shared.acquire_read(None).await.unwrap();
            // A wait that ends, and leaves an idle session.
            let first = there.acquire_lock("first", None).await.unwrap();
            let waiting = {
                let here = here.clone();
                tokio::spawn(async move { here.acquire_lock("first", None).await })
            };
            observer.until(QUEUED, 1, 5 * SECOND).await;
            tokio::time::sleep(FRESH_FOR).await;
            let second = mode.opposite().acquire(&there, "second", None).await.unwrap();
            first.release().await.unwrap();
            waiting.await.unwrap().unwrap().release().await.unwrap();
            let waiting = {
                let (here, mode) = (here.clone(), *mode);
                tokio::spawn(async move { mode.acquire(&here, "second", None).await })
            };
            tokio::time::sleep(round * 5 * MS).await;
            let began = Instant::now();
            let joined = shared.acquire_read(Some(5 * SECOND)).await;
            let took = began.elapsed();
            let what = format!("round {round}, {mode:?}, use_transaction {use_transaction}");
            let joined = joined.unwrap_or_else(|error| panic!("{what}: {error:?}"));
            assert!(took <= PROBED_WITHIN, "{what}: {took:?}");
            joined.release().await.unwrap();
            second.release().await.unwrap();
            waiting.await.unwrap().unwrap().release().await.unwrap();
            reader.release().await.unwrap();
        }
    }
}
