//! A way to a server whose connections the client sees closed while what it has sent on them is
//! delivered later, as a proxy or a load balancer does.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use distributed_lock_testkit::servers::RedisServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::{MS, SECOND};

/// What becomes of the connections that exist at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Stage {
    #[default]
    Serves,
    /// What the client sends is kept.
    Holds,
    /// The client sees the end of the connection.
    Closed,
    /// What was kept has gone to the server.
    Delivered,
}

/// Connections to one server; each generation of them is held, closed and delivered together.
#[derive(Debug)]
pub(crate) struct LateLinks {
    port: u16,
    generation: Arc<Mutex<watch::Sender<Stage>>>,
    held: Arc<Mutex<Vec<u8>>>,
}

impl LateLinks {
    pub(crate) async fn start(server: &RedisServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let upstream: SocketAddr = server.address();
        let generation = Arc::new(Mutex::new(watch::Sender::new(Stage::Serves)));
        let held = Arc::new(Mutex::new(Vec::new()));
        let (stages, kept) = (Arc::clone(&generation), Arc::clone(&held));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let stage = stages.lock().unwrap().subscribe();
                tokio::spawn(carry(client, upstream, stage, Arc::clone(&kept)));
            }
        });
        Self { port, generation, held }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From here on what clients send on the connections that exist is kept.
    pub(crate) fn hold(&self) {
        self.generation.lock().unwrap().send_replace(Stage::Holds);
    }

    /// Waits until a request that has these bytes was kept.
    pub(crate) async fn holds(&self, bytes: &[u8]) {
        let began = Instant::now();
        while !self.held.lock().unwrap().windows(bytes.len()).any(|part| part == bytes) {
            assert!(began.elapsed() < 5 * SECOND, "no such request came");
            tokio::time::sleep(MS).await;
        }
    }

    /// The connections that exist end for the client; new ones work. Returns what delivers the rest.
    pub(crate) fn close(&self) -> watch::Sender<Stage> {
        let next = watch::Sender::new(Stage::Serves);
        let last = std::mem::replace(&mut *self.generation.lock().unwrap(), next);
        last.send_replace(Stage::Closed);
        last
    }

    /// What was kept reaches the server.
    pub(crate) async fn deliver(last: watch::Sender<Stage>) {
        last.send_replace(Stage::Delivered);
        // Each connection lets go of its end when the server has answered.
        last.closed().await;
    }
}

async fn carry(
    client: TcpStream,
    upstream: SocketAddr,
    mut stage: watch::Receiver<Stage>,
    held: Arc<Mutex<Vec<u8>>>,
) {
    let server = TcpStream::connect(upstream).await.unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut kept, mut bytes, mut replies) = (Vec::new(), vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let mut ends = stage.clone();
    loop {
        tokio::select! {
            biased;
            is_closed = comes_to(&mut ends, Stage::Closed) => match is_closed {
                true => break,
                false => return,
            },
            read = from_client.read(&mut bytes) => {
                let count = read.unwrap_or(0);
                if count == 0 {
                    return;
                }
                let is_held = *stage.borrow() >= Stage::Holds;
                match is_held {
                    true => {
                        kept.extend_from_slice(&bytes[..count]);
                        held.lock().unwrap().extend_from_slice(&bytes[..count]);
                    }
                    false => to_server.write_all(&bytes[..count]).await.unwrap(),
                }
            }
            read = from_server.read(&mut replies) => {
                let count = read.unwrap_or(0);
                if count == 0 || to_client.write_all(&replies[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
    drop((from_client, to_client));
    if !comes_to(&mut stage, Stage::Delivered).await || kept.is_empty() {
        return;
    }
    to_server.write_all(&kept).await.unwrap();
    // A command after it: its reply says that those before were executed.
    to_server.write_all(b"*2\r\n$4\r\nECHO\r\n$9\r\ndelivered\r\n").await.unwrap();
    let mut answers = Vec::new();
    while !answers.windows(9).any(|part| part == b"delivered") {
        let count = from_server.read(&mut replies).await.unwrap();
        assert_ne!(count, 0, "the server closed it");
        answers.extend_from_slice(&replies[..count]);
    }
}

/// Whether the stage was reached, or else the test has ended.
async fn comes_to(stage: &mut watch::Receiver<Stage>, wanted: Stage) -> bool {
    stage.wait_for(|stage| *stage >= wanted).await.is_ok()
}
