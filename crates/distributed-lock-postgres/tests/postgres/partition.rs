//! A network that carries nothing any more, and tells nobody: neither data nor resets nor the
//! kernel's own answers pass. In a network namespace of a worker's own, whose loopback is taken down;
//! the test looks at the server by a unix socket.

use std::process::Command;
use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_postgres::PostgresLockProvider;
use distributed_lock_testkit::bounds::SLACK;
use distributed_lock_testkit::servers::{PASSWORD, PostgresServer};
use tokio::time::Instant;

use crate::observer::{HELD, Observer, QUEUED};
use crate::worker::{Worker, say};
use crate::{SECOND, provider};

/// How soon a holder is told, with default options: a keepalive and its answer.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// How soon the server lets go of locks and places, and a waiter waits again.
const FREED_WITHIN: Duration = Duration::from_secs(20);

fn set_loopback(state: &str) {
    let mut ip = Command::new("ip");
    ip.args(["link", "set", "lo", state]);
    assert!(ip.status().unwrap().success(), "{ip:?}");
}

/// What happens in the worker, with default options.
pub(crate) async fn be_partitioned() {
    set_loopback("up");
    let server = PostgresServer::start(&[("unix_socket_directories", ".")]);
    let socket = server.directory().join("data");
    let by_socket = format!(
        "host={} port={} user=postgres password={PASSWORD} dbname=postgres",
        socket.display(),
        server.port()
    );
    let observer = Observer::by(&by_socket).await;
    let here = provider(&server).await;
    let builder = PostgresLockProvider::builder().connection_string(&by_socket);
    let there = builder.build().await.unwrap();
    let held = here.acquire_lock("held", None).await.unwrap();
    let elsewhere = there.acquire_lock("elsewhere", None).await.unwrap();
    let waiter = here.clone();
    let waiting = tokio::spawn(async move { waiter.acquire_lock("elsewhere", None).await });
    observer.until(QUEUED, 1, SECOND).await;

    set_loopback("down");
    let dark = Instant::now();
    let signal = tokio::time::timeout(TOLD_WITHIN + SLACK, held.lost_token().cancelled()).await;
    assert!(signal.is_ok() && held.is_lost(), "not told within {TOLD_WITHIN:?}");
    let told = dark.elapsed();
    assert_eq!(observer.number(HELD).await, 2, "freed before its holder was told");
    observer.until(HELD, 1, FREED_WITHIN.saturating_sub(dark.elapsed())).await;
    let freed = dark.elapsed();
    observer.until(QUEUED, 0, FREED_WITHIN.saturating_sub(dark.elapsed())).await;
    let left = dark.elapsed();
    let next = there.try_acquire_lock("held").await.unwrap();
    next.expect("it is free").release().await.unwrap();

    set_loopback("up");
    let light = Instant::now();
    observer.until(QUEUED, 1, FREED_WITHIN).await;
    let again = light.elapsed();
    elsewhere.release().await.unwrap();
    waiting.await.unwrap().unwrap().release().await.unwrap();
    say(&format!(
        "told after {told:?}, lock freed after {freed:?}, place after {left:?}; waits again {again:?} \
         after the network is back"
    ));
}

#[test]
fn row_5_and_6_a_partitioned_holder_is_told_before_the_server_frees_lock_and_place() {
    let mut worker = Worker::start_with_network("partition");
    println!("{}", worker.hears());
}
