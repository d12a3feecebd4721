//! Servers that are no Redis servers, or bad ones: deadlines are kept, connects are few, and memory is
//! bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use distributed_lock_core::error::LockResult;
use distributed_lock_core::prelude::*;
use distributed_lock_redis::{RedisLockProvider, RedisProtocol};
use distributed_lock_testkit::servers::RedisServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::{SECOND, held, leased};

/// What a server does with a connection.
#[derive(Debug, Clone, Copy)]
enum Malice {
    ClosesAtOnce,
    ClosesWhenAsked,
    /// Answers HELLO, and closes with the first request.
    ClosesAfterHello,
    Garbage,
    /// A string of two gigabytes.
    LongString,
    /// An array of arrays of arrays.
    Nested,
    /// A line without an end.
    EndlessLine,
    /// An array of two billion, element by element.
    ManyElements,
}

impl Malice {
    const ALL: [Self; 7] = [
        Self::ClosesAtOnce,
        Self::ClosesWhenAsked,
        Self::Garbage,
        Self::LongString,
        Self::Nested,
        Self::EndlessLine,
        Self::ManyElements,
    ];

    /// What is sent first, and what again and again.
    fn words(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::ClosesAtOnce | Self::ClosesWhenAsked | Self::ClosesAfterHello => (b"", b""),
            Self::Garbage => (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\xff\r\n\x1b[2J"),
            Self::LongString => (b"$2000000000\r\n", b"xxxxxxxxxxxxxxxx"),
            Self::Nested => (b"", b"*1\r\n"),
            Self::EndlessLine => (b"+", b"OKOKOKOKOKOKOKOK"),
            Self::ManyElements => (b"*2000000000\r\n", b"_\r\n"),
        }
    }
}

/// What a hostile server has seen.
#[derive(Default)]
struct Seen {
    connects: AtomicU64,
    /// How much of its answers was taken.
    taken: AtomicU64,
}

async fn hostile(malice: Malice, port: u16) -> (String, Arc<Seen>) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Seen::default());
    let counts = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counts.connects.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(answer(stream, malice, Arc::clone(&counts)));
        }
    });
    (url, seen)
}

async fn answer(mut stream: TcpStream, malice: Malice, seen: Arc<Seen>) {
    if matches!(malice, Malice::ClosesAtOnce) {
        return;
    }
    let mut asked = [0; 1024];
    if !stream.read(&mut asked).await.is_ok_and(|read| read > 0)
        || matches!(malice, Malice::ClosesWhenAsked)
    {
        return;
    }
    if matches!(malice, Malice::ClosesAfterHello) {
        if asked.windows(5).any(|part| part == b"HELLO") {
            // Two more commands come with it.
            let _ = stream.write_all(b"%1\r\n+proto\r\n:3\r\n+OK\r\n+OK\r\n").await;
            let _ = stream.read(&mut asked).await;
        }
        return;
    }
    let (first, then) = malice.words();
    let block = then.repeat((1 << 16) / then.len());
    let mut sent = stream.write_all(first).await;
    while sent.is_ok() {
        sent = stream.write_all(&block).await;
        seen.taken.fetch_add(1 << 16, Ordering::Relaxed);
    }
}

/// Twice a longest reply, and what the kernels' buffers take besides.
const BOUNDED: u64 = 64 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_74_a_hostile_server_costs_one_operation_timeout_and_bounded_memory() {
    for malice in Malice::ALL {
        for protocol in [RedisProtocol::Auto, RedisProtocol::Resp2, RedisProtocol::Resp3] {
            let (url, seen) = hostile(malice, 0).await;
            let start = Instant::now();
            let builder = RedisLockProvider::builder().add_server(&url).protocol(protocol);
            let built: LockResult<_> = builder.build().await;
            assert!(
                matches!(built, Err(LockError::Connection(_) | LockError::Backend(_))),
                "{malice:?}"
            );
            let (took, taken) = (start.elapsed(), seen.taken.load(Ordering::Relaxed));
            assert!(took < SECOND * 3, "{malice:?} {protocol:?}: {took:?}");
            assert!(taken < BOUNDED, "{malice:?} {protocol:?}: {taken} bytes");
        }
    }
}

/// A server that was good turns hostile while a provider holds, waits, and tries again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_74_at_most_two_connects_a_second() {
    const SECONDS: u32 = 4;
    for (malice, each_second) in
        [(Malice::ClosesAtOnce, 2), (Malice::ClosesWhenAsked, 2), (Malice::ClosesAfterHello, 6)]
    {
        let server = RedisServer::start(&[]);
        let provider = leased(&server.url(), SECOND * 3).await;
        let mutex = held(&provider, "held").await;
        let other = leased(&server.url(), SECOND * 30).await;
        let theirs = held(&other, "theirs").await;
        let waiting = provider.clone();
        let waiter = tokio::spawn(async move { waiting.acquire_lock("theirs", None).await });
        crate::queue::until_waiting(&server, 1).await;
        drop(other);
        server.kill();
        let (_, seen) = hostile(malice, server.port()).await;
        let start = Instant::now();
        let mut tries = 0;
        while start.elapsed() < SECOND * SECONDS {
            let tried = provider.try_acquire_lock("tried").await;
            assert!(matches!(tried, Err(LockError::Connection(_))), "{malice:?}: {tried:?}");
            tries += 1;
        }
        let connects = seen.connects.load(Ordering::Relaxed);
        let lasted = start.elapsed().as_secs();
        println!("{malice:?}: {connects} connects and {tries} tries in {lasted} s");
        // A second at each end may be a part of one.
        assert!(connects <= each_second * (lasted + 2), "{malice:?}: {connects} in {lasted} s");
        assert!(connects >= lasted, "{malice:?}: {connects}: it gave up");
        assert!(mutex.is_lost() && !waiter.is_finished(), "{malice:?}");
        waiter.abort();
        drop(theirs);
    }
}
