//! What the server's statistics of statements see of us.

use distributed_lock_core::prelude::*;
use distributed_lock_testkit::servers::PostgresServer;

use crate::observer::{Observer, QUEUED};
use crate::{SECOND, builder};

const DIFFERENT: &str = "SELECT count(DISTINCT queryid) FROM pg_stat_statements";

/// Waits once for each of these names, in every mode.
async fn wait_for(server: &PostgresServer, names: std::ops::Range<u32>, use_transaction: bool) {
    let observer = Observer::of(server).await;
    let build = || builder(server).use_transaction(use_transaction).build();
    let (here, there) = (build().await.unwrap(), build().await.unwrap());
    for name in names.map(|number| format!("name {number}")) {
        let held = here.create_semaphore(&name, 1).acquire(None).await.unwrap();
        let semaphore = there.create_semaphore(&name, 1);
        let waiting = tokio::spawn(async move { semaphore.acquire(Some(10 * SECOND)).await });
        let at_head = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted";
        observer.until(at_head, 2, 5 * SECOND).await;
        held.release().await.unwrap();
        waiting.await.unwrap().unwrap().release().await.unwrap();
        let held = here.acquire_lock(&name, None).await.unwrap();
        let lock = there.create_reader_writer_lock(&name);
        let waiting = tokio::spawn(async move { lock.acquire_read(Some(10 * SECOND)).await });
        observer.until(QUEUED, 1, 5 * SECOND).await;
        held.release().await.unwrap();
        waiting.await.unwrap().unwrap().release().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_make_no_statements_of_their_own() {
    let server = PostgresServer::start(&[
        ("shared_preload_libraries", "pg_stat_statements"),
        ("compute_query_id", "on"),
    ]);
    let observer = Observer::of(&server).await;
    observer.run("CREATE EXTENSION pg_stat_statements").await;
    for use_transaction in [false, true] {
        wait_for(&server, 0..2, use_transaction).await;
        let before = observer.number(DIFFERENT).await;
        wait_for(&server, 2..10, use_transaction).await;
        let after = observer.number(DIFFERENT).await;
        // A few may be seen for the first time, such as a look at a long wait, but not one for each name.
        assert!(after < before + 4, "{before}, then {after}");
    }
}
