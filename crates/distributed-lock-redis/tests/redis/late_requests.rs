//! Requests that reach the server after their connection was closed for the client.

use distributed_lock_core::prelude::*;
use distributed_lock_redis::{RedisLockProvider, RedisProtocol};
use distributed_lock_testkit::proxy::FaultProxy;
use distributed_lock_testkit::servers::RedisServer;

use crate::queue::until_waiting;
use crate::{MS, SECOND, freed, held, is_held, leased};

const PROTOCOLS: [RedisProtocol; 2] = [RedisProtocol::Resp2, RedisProtocol::Resp3];

const EXPIRY: std::time::Duration = std::time::Duration::from_secs(20);

/// What the modes have in common: a way to take the lock of a name.
const MODES: [&str; 3] = ["mutex", "reader", "permit"];

type Held = Box<dyn std::any::Any + Send>;

/// Takes the lock of a name in a mode; what is returned releases it when dropped.
async fn acquire(provider: &RedisLockProvider, mode: &str, name: &str) -> Held {
    let wait = Some(10 * SECOND);
    match mode {
        "mutex" => Box::new(provider.acquire_lock(name, wait).await.unwrap()),
        "reader" => {
            let lock = provider.create_reader_writer_lock(name);
            Box::new(lock.acquire_read(wait).await.unwrap())
        }
        _ => Box::new(provider.create_semaphore(name, 1).acquire(wait).await.unwrap()),
    }
}

/// Takes what excludes the others of a mode.
async fn exclude(provider: &RedisLockProvider, mode: &str, name: &str) -> Held {
    acquire(provider, if mode == "reader" { "mutex" } else { mode }, name).await
}

async fn by(
    proxy: &FaultProxy,
    server: &RedisServer,
    protocol: RedisProtocol,
) -> RedisLockProvider {
    let builder = RedisLockProvider::builder().add_server(server.url_by(proxy.port()));
    builder.expiry(EXPIRY).protocol(protocol).build().await.unwrap()
}

/// Lets a provider run scripts, and believe that a name is contended.
async fn contend(here: &RedisLockProvider, there: &RedisLockProvider, name: &str) {
    let theirs = held(there, name).await;
    for _ in 0..2 {
        assert!(is_held(here, name).await);
    }
    theirs.release().await.unwrap();
}

async fn until_held(proxy: &FaultProxy) {
    while proxy.held_requests() == 0 {
        tokio::time::sleep(MS).await;
    }
}

/// A try leaves by a connection that is closed, is repeated, and granted; another process waits. Then
/// the first copy arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_49_a_repeated_try_has_the_effect_of_one() {
    let server = RedisServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    for protocol in PROTOCOLS {
        for mode in MODES {
            let name = &format!("twice {mode} {protocol:?}");
            let (here, there) =
                (by(&proxy, &server, protocol).await, leased(&server.url(), EXPIRY).await);
            contend(&here, &there, name).await;
            proxy.hold_request(name.as_bytes());
            let ours = acquire(&here, mode, name).await;
            assert_eq!(proxy.held_requests(), 1, "it was not sent twice");
            let waiting = tokio::spawn({
                let (there, name) = (there.clone(), name.clone());
                async move { exclude(&there, mode, &name).await }
            });
            until_waiting(&server, 1).await;
            proxy.deliver();
            tokio::time::sleep(300 * MS).await;
            assert!(!waiting.is_finished(), "{name}: two holders");
            drop(ours);
            drop(waiting.await.unwrap());
            freed(&there, name, SECOND).await;
        }
    }
}

/// A try leaves by a connection that is closed, is repeated, granted and released. Then the first copy
/// arrives: by script, and by the plain commands that take a free mutex.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_49_a_late_try_leaves_no_owner_after_the_release() {
    let server = RedisServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    for protocol in PROTOCOLS {
        for is_contended in [false, true] {
            for mode in MODES {
                let name = &format!("late try {mode} {is_contended} {protocol:?}");
                let here = by(&proxy, &server, protocol).await;
                let there = leased(&server.url(), EXPIRY).await;
                drop(acquire(&here, mode, &format!("{name} before")).await);
                if is_contended {
                    contend(&here, &there, name).await;
                }
                proxy.hold_request(name.as_bytes());
                let ours = acquire(&here, mode, name).await;
                until_held(&proxy).await;
                drop(ours);
                drop(exclude(&there, mode, name).await);
                tokio::time::sleep(300 * MS).await;
                proxy.deliver();
                let taken = tokio::time::timeout(2 * SECOND, exclude(&there, mode, name)).await;
                assert!(taken.is_ok(), "{name}: nobody holds it, and nobody can have it");
            }
        }
    }
}

/// A waiter's tick leaves by a connection that is closed; the waiter asks again, is granted and
/// releases. Then the tick arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_49_a_late_tick_leaves_no_owner_after_the_release() {
    let server = RedisServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    for protocol in PROTOCOLS {
        for mode in MODES {
            let name = &format!("late tick {mode} {protocol:?}");
            let (here, there) =
                (by(&proxy, &server, protocol).await, leased(&server.url(), EXPIRY).await);
            let theirs = exclude(&there, mode, name).await;
            let waiting = tokio::spawn({
                let (here, name) = (here.clone(), name.clone());
                async move { acquire(&here, mode, &name).await }
            });
            until_waiting(&server, 1).await;
            proxy.hold_request(name.as_bytes());
            until_held(&proxy).await;
            drop(theirs);
            drop(waiting.await.unwrap());
            drop(exclude(&there, mode, name).await);
            tokio::time::sleep(300 * MS).await;
            proxy.deliver();
            let taken = tokio::time::timeout(2 * SECOND, exclude(&there, mode, name)).await;
            assert!(taken.is_ok(), "{name}: nobody holds it, and nobody can have it");
        }
    }
}

/// The reply to the first request that takes a queue position is lost, and another process takes one
/// before the request is repeated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_wait_that_is_repeated_keeps_its_queue_position() {
    let server = RedisServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    for protocol in PROTOCOLS {
        let name = &format!("position {protocol:?}");
        let (here, there) =
            (by(&proxy, &server, protocol).await, leased(&server.url(), EXPIRY).await);
        let holder = held(&there, name).await;
        // Once it has waited, only requests that wait carry its channel.
        assert!(here.acquire_lock(name, Some(50 * MS)).await.is_err());
        proxy.lose_reply_to(b"distributed-lock/1:process:");
        let first = tokio::spawn({
            let (here, name) = (here.clone(), name.clone());
            async move { here.acquire_lock(&name, None).await.unwrap() }
        });
        until_waiting(&server, 1).await;
        let mut second = tokio::spawn({
            let (there, name) = (leased(&server.url(), EXPIRY).await, name.clone());
            async move { there.acquire_lock(&name, None).await.unwrap() }
        });
        until_waiting(&server, 2).await;
        // Until it is repeated by another connection, after an operation timeout.
        let connections = proxy.connections_ever();
        while proxy.connections_ever() == connections {
            tokio::time::sleep(MS).await;
        }
        tokio::time::sleep(SECOND).await;
        holder.release().await.unwrap();
        tokio::select! {
            biased;
            _ = &mut second => panic!("{name}: overtaken"),
            first = first => first.unwrap().release().await.unwrap(),
        }
        second.await.unwrap().release().await.unwrap();
    }
}

/// A name that is always waited for keeps its keys, and with them the tombstones, unless those that have
/// ended are removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_tombstones_of_a_name_that_stays_contended_are_removed() {
    let server = RedisServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    let name = "contended";
    let there = leased(&server.url(), EXPIRY).await;
    let theirs = held(&there, name).await;
    let other = leased(&server.url(), EXPIRY).await;
    let waiting = tokio::spawn(async move { other.acquire_lock(name, None).await.unwrap() });
    until_waiting(&server, 1).await;
    let waiters = server.cli(&["KEYS", "distributed-lock/1:*:waiters:*"]);
    let entries = || server.cli(&["HLEN", &waiters]).parse::<usize>().unwrap();
    assert_eq!(entries(), 1, "the waiter's");
    // One lasts, 93 have ended. With the next tombstone there are 96 entries: three times 32.
    let seconds = server.cli(&["TIME"]).lines().next().unwrap().parse::<u64>().unwrap();
    let lasting = format!("{:032x}", 0);
    assert_eq!(server.cli(&["HSET", &waiters, &lasting, &format!("{}000", seconds + 600)]), "1");
    let ended: Vec<String> = (1..=93).map(|token| format!("{token:032x}")).collect();
    let mut command = vec!["HSET", &waiters];
    ended.iter().for_each(|token| command.extend([token.as_str(), "1700000000000"]));
    assert_eq!(server.cli(&command), "93");
    // A try leaves by a connection that is closed, and is repeated on another: it is withdrawn.
    let here = by(&proxy, &server, RedisProtocol::Resp3).await;
    proxy.hold_request(name.as_bytes());
    assert!(is_held(&here, name).await);
    let began = tokio::time::Instant::now();
    while entries() > 3 {
        assert!(began.elapsed() < 5 * SECOND, "{} entries", entries());
        tokio::time::sleep(5 * MS).await;
    }
    let left = server.cli(&["HGETALL", &waiters]);
    assert!(left.contains(&lasting) && left.contains("distributed-lock/1:process:"), "{left}");
    theirs.release().await.unwrap();
    waiting.await.unwrap().release().await.unwrap();
    proxy.deliver();
}
