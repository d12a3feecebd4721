//! Connections that are killed again and again while tasks wait, time out and are cancelled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_redis::{RedisLockProvider, RedisProtocol};
use distributed_lock_testkit::servers::RedisServer;
use distributed_lock_testkit::worker::random::Random;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::{MS, SECOND, held, order, timed};

/// How long connections are killed, for each protocol and kind.
const LASTS: Duration = Duration::from_secs(4);

/// How often.
const KILLED_EVERY: Duration = Duration::from_millis(50);

/// Less than a fallback period (1 s), which is what a killed connection costs that is noticed late. The
/// lock is held for 30 ms at a time.
const QUICK: Duration = Duration::from_millis(600);

/// Of so many waits one may take longer: its connection was killed, and the next one, too.
const ONE_SLOW_WAIT_IN: usize = 20;

async fn provider(server: &RedisServer, protocol: RedisProtocol) -> RedisLockProvider {
    RedisLockProvider::builder().add_server(server.url()).protocol(protocol).build().await.unwrap()
}

/// Kills the connections of a kind again and again.
async fn kill(server: &RedisServer, kind: &'static str) -> JoinHandle<()> {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    tokio::spawn(async move {
        let command = format!("CLIENT KILL TYPE {kind} SKIPME yes\r\n");
        let mut reply = [0; 64];
        loop {
            sleep(KILLED_EVERY).await;
            stream.write_all(command.as_bytes()).await.unwrap();
            assert_ne!(stream.read(&mut reply).await.unwrap(), 0);
        }
    })
}

/// Acquires, gives up at random, and releases, until it is over.
fn contend(
    provider: RedisLockProvider,
    mut random: Random,
    is_over: Arc<AtomicBool>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        while !is_over.load(Ordering::Relaxed) {
            let acquiring = provider.acquire_lock("killed", None);
            if let Ok(Ok(handle)) = timeout(random.up_to(3 * SECOND), acquiring).await {
                sleep(30 * MS).await;
                // Released in the background if its connection was killed.
                let _ = handle.release().await;
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_24_waits_go_on_while_connections_are_killed_all_the_time() {
    let mut random = Random::new(7);
    for protocol in [RedisProtocol::Resp2, RedisProtocol::Resp3] {
        for kind in ["normal", "pubsub"] {
            let server = RedisServer::start(&[]);
            let is_over = Arc::new(AtomicBool::new(false));
            let mut tasks = Vec::new();
            for _ in 0..3 {
                let process = provider(&server, protocol).await;
                for _ in 0..8 {
                    let random = Random::new(random.number());
                    tasks.push(contend(process.clone(), random, Arc::clone(&is_over)));
                }
            }
            let caller = provider(&server, protocol).await;
            let killing = kill(&server, kind).await;
            let (start, mut waits) = (Instant::now(), Vec::new());
            while start.elapsed() < LASTS {
                let acquiring = caller.acquire_lock("killed", Some(15 * SECOND));
                let (acquired, took) = timed(acquiring).await;
                waits.push(took);
                let _ = acquired.unwrap().release().await;
            }
            is_over.store(true, Ordering::Relaxed);
            killing.abort();
            for task in tasks {
                task.await.unwrap();
            }
            let slow = waits.iter().filter(|took| **took > QUICK).count();
            let longest = waits.iter().max().copied().unwrap_or_default();
            let what = format!("{protocol:?}, {kind}: {} waits, {slow} slow", waits.len());
            println!("{what}, the longest {longest:?}");
            assert!(slow * ONE_SLOW_WAIT_IN <= waits.len(), "{what}, the longest {longest:?}");
        }
    }
}

/// With RESP2 as with RESP3: not only with its next request, a fallback period (1 s) later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_24_a_waiter_notices_at_once_that_its_connection_was_killed() {
    const KILLS: u32 = 6;
    let server = RedisServer::start(&[]);
    // Which connection of a waiter the server counts as which type.
    for (protocol, kind) in [(RedisProtocol::Resp2, "normal"), (RedisProtocol::Resp3, "pubsub")] {
        let holder = provider(&server, RedisProtocol::Resp3).await;
        let blocks = held(&holder, "noticed").await;
        let process = provider(&server, protocol).await;
        let waiter = tokio::spawn(async move { process.acquire_lock("noticed", None).await });
        crate::queue::until_waiting(&server, 1).await;
        let mut until_replaced = Duration::ZERO;
        for _ in 0..KILLS {
            let before = newest(&server, kind);
            order(&server, &["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]);
            let killed = Instant::now();
            while newest(&server, kind) <= before {
                assert!(killed.elapsed() < 5 * SECOND, "{protocol:?}: never replaced");
                sleep(5 * MS).await;
            }
            until_replaced += killed.elapsed();
            // So that the new connection is in use.
            sleep(60 * MS).await;
        }
        let each = until_replaced / KILLS;
        println!("{protocol:?}: replaced after {each:?}");
        assert!(each < SECOND / 2, "{protocol:?}: replaced after {each:?}");
        blocks.release().await.unwrap();
        waiter.await.unwrap().unwrap().release().await.unwrap();
    }
}

/// The number of the server's newest connection of a type, without that which asks.
fn newest(server: &RedisServer, kind: &str) -> u64 {
    let list = server.cli(&["CLIENT", "LIST", "TYPE", kind]);
    let ids = list.lines().filter(|line| !line.contains("cmd=client"));
    let ids = ids.filter_map(|line| line.strip_prefix("id=")?.split(' ').next()?.parse().ok());
    ids.max().unwrap_or(0)
}
