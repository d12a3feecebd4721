//! One connection: both ways, and how it ends.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Way;
use super::door::Proxy;
use super::link::Link;
use super::pump::{Ending, pump};
use super::rules::Admission;

/// Serves a client until it or the server has ended the connection, or a fault has.
pub(super) async fn serve(proxy: &Proxy, link: &Link, client: TcpStream, admission: Admission) {
    let is_reset = proxy.rules.until(|faults| faults.resets > link.resets);
    if admission == Admission::Mute {
        proxy.tally.muted.add(1);
        return be_silent(proxy, client, is_reset).await;
    }
    let upstream = *proxy.upstream();
    let Ok(server) = TcpStream::connect(upstream).await else {
        return reset(&client);
    };
    // Small messages go on at once, as they came.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut client, mut server) = (client, server);
    let ending = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let requests = pump(proxy, link, Way::ToServer, from_client, to_server);
        let replies = pump(proxy, link, Way::ToClient, from_server, to_client);
        tokio::select! {
            () = is_reset => {
                proxy.tally.reset.add(1);
                Ending::Broken
            }
            ending = async { tokio::try_join!(requests, replies) } => match ending {
                Ok(((), ())) => Ending::Closed,
                Err(ending) => ending,
            },
        }
    };
    if let Ending::Held(bytes) = ending {
        return deliver_late(proxy, bytes, client, server).await;
    }
    if ending == Ending::Broken {
        reset(&client);
        reset(&server);
    }
}

/// How long the rest of a request that is kept may take to arrive.
const REST: Duration = Duration::from_millis(20);

/// Closes the connection for the client, and delivers its last request when the test says so.
async fn deliver_late(
    proxy: &Proxy,
    mut bytes: Vec<u8>,
    mut client: TcpStream,
    mut server: TcpStream,
) {
    let mut rest = vec![0; 16 * 1024];
    while let Ok(Ok(count @ 1..)) = tokio::time::timeout(REST, client.read(&mut rest)).await {
        bytes.extend_from_slice(&rest[..count]);
    }
    reset(&client);
    drop(client);
    let before = proxy.rules.now(|faults| faults.deliveries);
    proxy.tally.held.add(1);
    proxy.rules.until(|faults| faults.deliveries > before).await;
    // The reply says that the request was executed; without one the server is gone.
    if server.write_all(&bytes).await.is_ok() {
        let _ = server.read(&mut rest).await;
    }
    proxy.tally.delivered_late.add(1);
}

/// Holds a connection open until the client ends it.
async fn be_silent(proxy: &Proxy, mut client: TcpStream, is_reset: impl Future<Output = ()>) {
    let mut ignored = [0; 1024];
    let ends = async { while matches!(client.read(&mut ignored).await, Ok(1..)) {} };
    tokio::select! {
        () = ends => {}
        () = is_reset => {
            proxy.tally.reset.add(1);
            reset(&client);
        }
    }
}

/// What follows is a close by RST.
fn reset(stream: &TcpStream) {
    // One that is gone already needs none.
    let _ = stream.set_zero_linger();
}
