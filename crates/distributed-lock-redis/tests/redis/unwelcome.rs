//! Servers that do not let a client in, or cannot carry locks: the error says which server and why.

use distributed_lock_core::prelude::*;
use distributed_lock_redis::{RedisLockProvider, RedisProtocol, ServerError};
use distributed_lock_testkit::servers::RedisServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::order;

/// Everything that an error says, layer by layer.
fn said(error: &LockError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let layer = error.to_string();
        assert!(!text.contains(&layer), "said twice: {text}: {layer}");
        text = format!("{text}: {layer}");
        source = error.source();
    }
    assert!(!text.contains("  "), "a run of spaces: {text}");
    text
}

async fn refusal(url: &str, protocol: RedisProtocol) -> LockError {
    let builder = RedisLockProvider::builder().add_server(url).protocol(protocol);
    builder.build().await.expect_err("it lets nobody in")
}

/// A server of which the client hears nothing but this, and then the end. PING is answered if `pongs`.
async fn rude(words: &'static [u8], pongs: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            if !pongs {
                let _ = client.write_all(words).await;
                continue;
            }
            let mut asked = [0; 1024];
            let count = client.read(&mut asked).await.unwrap_or(0);
            if asked[..count].starts_with(b"PING") {
                let _ = client.write_all(b"+PONG\r\n").await;
            }
        }
    });
    format!("redis://{address}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_is_named_with_its_own_words() {
    let server = RedisServer::start(&["--requirepass", "secret"]);
    let locked = server.url().replace(":secret@", "");
    let address = server.address().to_string();
    for protocol in [RedisProtocol::Auto, RedisProtocol::Resp2, RedisProtocol::Resp3] {
        let refused = refusal(&locked, protocol).await;
        let text = said(&refused);
        assert!(matches!(refused, LockError::Backend(_)), "{text}");
        assert!(text.contains("NOAUTH Authentication required"), "{text}");
        assert!(text.contains(&address) && !text.contains("HELLO"), "{text}");
        let wrong = refusal(&server.url().replace("secret", "wrong"), protocol).await;
        let text = said(&wrong);
        // The client library does not pass on what the server says to AUTH.
        let is_said = text.contains("WRONGPASS") || text.contains("authentication failed");
        assert!(is_said && text.contains(&address), "{text}");
        assert_eq!(wrong.find_source::<ServerError>().unwrap().server(), address);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_54_a_server_without_room_is_a_refusal_that_passes() {
    let server = RedisServer::start(&["--maxclients", "1"]);
    let client = distributed_lock_redis::redis::Client::open(server.url()).unwrap();
    // The server may not have closed the connection yet that was made to see whether it answers.
    let _only = loop {
        if let Ok(only) = client.get_multiplexed_async_connection().await {
            break only;
        }
    };
    let refused = refusal(&server.url(), RedisProtocol::Auto).await;
    let text = said(&refused);
    assert!(text.contains("max number of clients") && refused.is_retryable(), "{text}");
    assert!(text.contains(&server.address().to_string()), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_redis_server_is_said_so() {
    let protected =
        rude(b"-DENIED Redis is running in protected mode because ...\r\n", false).await;
    let text = said(&refusal(&protected, RedisProtocol::Auto).await);
    assert!(text.contains("protected mode") && text.contains(&protected[8..]), "{text}");
    let web = rude(b"HTTP/1.1 400 Bad Request\r\n\r\n", false).await;
    let text = said(&refusal(&web, RedisProtocol::Auto).await);
    assert!(text.contains("not a Redis server") && text.contains(&web[8..]), "{text}");
    let old = rude(b"", true).await;
    let text = said(&refusal(&old, RedisProtocol::Resp3).await);
    assert!(text.contains("protocol=resp2") && text.contains(&old[8..]), "{text}");
    // Refused at once, not after a timeout.
    let nothing = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let text = said(&refusal(&format!("redis://{nothing}"), RedisProtocol::Auto).await);
    assert!(text.contains(&nothing.to_string()), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_release_locks_is_refused() {
    for renamed in ["EVALSHA", "EVAL"] {
        let server = RedisServer::start(&["--rename-command", renamed, ""]);
        let refused = refusal(&server.url(), RedisProtocol::Auto).await;
        let text = said(&refused);
        assert!(matches!(refused, LockError::Unsupported(_)), "{text}");
        assert!(text.contains("EVAL") && text.contains("Remedy: "), "{text}");
        assert!(text.contains(&server.address().to_string()), "{text}");
    }
    let node = RedisServer::start(&["--cluster-enabled", "yes"]);
    let refused = refusal(&node.url(), RedisProtocol::Auto).await;
    let text = said(&refused);
    assert!(matches!(refused, LockError::Unsupported(_)), "{text}");
    assert!(text.contains("Cluster") && text.contains(&node.address().to_string()), "{text}");
}

/// The health check leaves every lock alone, whatever its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_health_check_touches_no_lock() {
    let server = RedisServer::start(&[]);
    let name = "distributed-lock/1:probe";
    let here = crate::provider(&server.url()).await;
    let held = crate::held(&here, name).await;
    let there = crate::provider(&server.url()).await;
    assert!(there.try_acquire_lock(name).await.unwrap().is_none());
    held.release().await.unwrap();
}

/// What a holder that is gone has left is not named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_holder_is_named_whose_lease_has_ended() {
    use distributed_lock_core::Mode;
    let server = RedisServer::start(&[]);
    let here = crate::provider(&server.url()).await;
    let permit = here.create_semaphore("gone", 2).acquire(None).await.unwrap();
    let kept = server.cli(&["KEYS", "*permits:*"]);
    permit.release().await.unwrap();
    let past = "0123456789abcdef0123456789abcdef 1000 dead";
    order(&server, &["ZADD", &kept, "1", past]);
    let mode = Mode::Permit { max: 2 };
    assert!(here.holder("gone", mode).await.unwrap().is_none());
}
