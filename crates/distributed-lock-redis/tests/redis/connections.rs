//! Connections that end, ways to connect, and what is known about them.

use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_redis::{RedisLockProvider, RedisProtocol};
use distributed_lock_testkit::proxy::{FaultProxy, Way};
use distributed_lock_testkit::servers::RedisServer;

use crate::{MS, SECOND, held, is_held, leased, order, provider};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_24_killed_connections_and_flushed_scripts_go_unnoticed() {
    let server = RedisServer::start(&[]);
    for protocol in [RedisProtocol::Resp3, RedisProtocol::Resp2] {
        let builder = RedisLockProvider::builder().add_server(server.url()).protocol(protocol);
        let here = builder.expiry(3 * SECOND).build().await.unwrap();
        let there = leased(&server.url(), 3 * SECOND).await;
        let deeds: [&[&str]; 3] = [
            &["SCRIPT", "FLUSH"],
            &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"],
            &["CLIENT", "KILL", "TYPE", "pubsub"],
        ];
        for deed in deeds {
            let handle = held(&here, "held").await;
            let other = there.clone();
            let blocks = held(&there, "waited for").await;
            let process = here.clone();
            let waiter =
                tokio::spawn(async move { process.acquire_lock("waited for", None).await });
            crate::queue::until_waiting(&server, 1).await;
            order(&server, deed);
            assert!(is_held(&other, "held").await, "{protocol:?} {deed:?}");
            blocks.release().await.unwrap();
            let waited =
                tokio::time::timeout(2 * SECOND, waiter).await.expect("within two periods");
            waited.unwrap().unwrap().release().await.unwrap();
            assert!(!handle.is_lost());
            order(&server, deed);
            handle.release().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_provider_has_one_connection_or_two_with_resp2() {
    let server = RedisServer::start(&[]);
    for (protocol, connections) in [(RedisProtocol::Auto, 1), (RedisProtocol::Resp2, 2)] {
        let proxy = FaultProxy::start(server.address());
        let url = server.url_by(proxy.port());
        let builder = RedisLockProvider::builder().add_server(url).protocol(protocol);
        let here = builder.build().await.unwrap();
        let mut handles = Vec::new();
        for number in 0..1000 {
            handles.push(held(&here, &format!("many {number}")).await);
        }
        let waited = here.create_semaphore("waited", 1);
        let permit = waited.acquire(None).await.unwrap();
        let timeout =
            provider(&server.url()).await.create_semaphore("waited", 1).acquire(Some(MS)).await;
        assert!(matches!(timeout, Err(LockError::Timeout(_))));
        assert!(matches!(waited.acquire(Some(20 * MS)).await, Err(LockError::Timeout(_))));
        permit.release().await.unwrap();
        assert_eq!((proxy.connections(), proxy.connections_ever()), (connections, connections));
        assert!(here.shutdown().await.is_empty());
    }
}

#[tokio::test]
async fn user_password_database_and_socket() {
    let args = ["--requirepass", "p@ss", "--unixsocket", "redis.sock", "--unixsocketperm", "777"];
    let server = RedisServer::start(&args);
    let socket = server.directory().join("redis.sock");
    let port = server.port();
    let urls = [
        format!("redis://:p%40ss@127.0.0.1:{port}/3"),
        format!("redis://default:p%40ss@localhost:{port}/3"),
        format!("unix://{}?db=3&pass=p%40ss", socket.display()),
    ];
    for (name, url) in urls.iter().enumerate() {
        let here = provider(url).await;
        let handle = held(&here, &format!("database {name}")).await;
        let key = here.native_key(&format!("database {name}")).unwrap();
        assert_eq!(server.cli(&["-n", "3", "EXISTS", &key]), "1", "{name}");
        handle.release().await.unwrap();
    }
}

#[tokio::test]
async fn tls_is_verified() {
    let server = RedisServer::builder().tls().start();
    let url = server.tls_url().unwrap();
    // The system does not know the authority.
    let refused = RedisLockProvider::builder().add_server(&url).build().await;
    assert!(matches!(refused, Err(LockError::Connection(_))), "{refused:?}");
    let authority = std::fs::read(server.ca_path().unwrap()).unwrap();
    let certificates = distributed_lock_redis::redis::TlsCertificates {
        client_tls: None,
        root_cert: Some(authority),
    };
    let client = distributed_lock_redis::redis::Client::build_with_tls(url, certificates).unwrap();
    let here = RedisLockProvider::builder().client(client).build().await.unwrap();
    held(&here, "tls").await.release().await.unwrap();
    // No way around it.
    let url = format!("{}#insecure", server.tls_url().unwrap());
    let refused = RedisLockProvider::builder().add_server(url).build().await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn row_46_passwords_are_not_shown() {
    const SECRET: &str = "s3cr3t-passw0rd";
    let server = RedisServer::start(&["--requirepass", "another"]);
    let port = server.port();
    let urls = [
        format!("redis://user:{SECRET}@127.0.0.1:{port}"),
        format!("redis://user:{SECRET}@127.0.0.1:1"),
        format!("redis://user:{SECRET}@127.0.0.1:{port}/x"),
        format!("redis://user:{SECRET}@:{port}:"),
        format!("http://user:{SECRET}@127.0.0.1"),
        format!("unix:///nowhere?pass={SECRET}"),
        format!("rediss://user:{SECRET}@127.0.0.1:{port}"),
    ];
    for url in &urls {
        let builder = RedisLockProvider::builder().add_server(url).operation_timeout(500 * MS);
        assert!(!format!("{builder:?}").contains(SECRET));
        let error = builder.build().await.expect_err("nothing can work here");
        let mut shown = format!("{error:?} {error}");
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            shown += &format!(" {inner:?} {inner}");
            source = inner.source();
        }
        assert!(!shown.contains(SECRET) && !shown.contains("passw0rd"), "{shown}");
    }
    let provider = provider(&format!("redis://:another@127.0.0.1:{port}")).await;
    assert!(!format!("{provider:?}").contains("another"));
}

/// A path that hangs in the middle of a hold: the connection is replaced, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_says_nothing_more_is_replaced() {
    let server = RedisServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    let url = server.url_by(proxy.port());
    let builder = RedisLockProvider::builder().add_server(url).expiry(4 * SECOND);
    let here = builder.operation_timeout(500 * MS).build().await.unwrap();
    let handle = held(&here, "gap").await;
    // Only what is open now: new connections work.
    proxy.black_hole(Way::ToClient);
    tokio::time::sleep(1500 * MS).await;
    proxy.heal();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!handle.is_lost());
    handle.release().await.unwrap();
}

#[tokio::test]
async fn a_provider_needs_a_server() {
    assert!(matches!(RedisLockProvider::builder().build().await, Err(LockError::Config(_))));
}
