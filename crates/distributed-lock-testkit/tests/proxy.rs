//! The fault proxy's faults are real: what must not arrive does not, what must does.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "it is a test")]
#![expect(clippy::disallowed_methods, reason = "delays are measured by the clock of the machine")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use distributed_lock_testkit::proxy::{FaultProxy, Way};
use distributed_lock_testkit::servers::{PostgresServer, RedisServer};

/// For how long it is watched that nothing comes.
const WATCHED_FOR: Duration = Duration::from_millis(300);

/// How soon what must come has come.
const COMES_WITHIN: Duration = Duration::from_secs(10);

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const PONG: &[u8] = b"+PONG\r\n";

/// A proxy with both ends of a connection through it.
struct Through {
    proxy: FaultProxy,
    listener: TcpListener,
    client: TcpStream,
    server: TcpStream,
}

impl Through {
    fn connect() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = FaultProxy::start(listener.local_addr().unwrap());
        let (client, server) = pair(&proxy, &listener);
        Self { proxy, listener, client, server }
    }

    fn another(&self) -> (TcpStream, TcpStream) {
        pair(&self.proxy, &self.listener)
    }
}

/// Both ends of a new connection.
fn pair(proxy: &FaultProxy, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(proxy.address()).unwrap();
    let server = listener.accept().unwrap().0;
    for end in [&client, &server] {
        end.set_read_timeout(Some(COMES_WITHIN)).unwrap();
    }
    (client, server)
}

fn send(from: &mut TcpStream, bytes: &[u8]) {
    from.write_all(bytes).unwrap();
}

fn receive(to: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    to.read_exact(&mut bytes).unwrap();
    bytes
}

fn assert_silent(end: &mut TcpStream) {
    end.set_read_timeout(Some(WATCHED_FOR)).unwrap();
    let error = end.read(&mut [0]).expect_err("something came, or the connection ended");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    end.set_read_timeout(Some(COMES_WITHIN)).unwrap();
}

fn assert_reset(end: &mut TcpStream) {
    let error = end.read(&mut [0]).expect_err("something came, or an end in good order");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

fn assert_closed(end: &mut TcpStream) {
    assert_eq!(end.read(&mut [0]).unwrap(), 0);
}

#[test]
fn everything_passes_and_is_counted() {
    let mut through = Through::connect();
    send(&mut through.client, b"question");
    assert_eq!(receive(&mut through.server, 8), b"question");
    send(&mut through.server, b"answer");
    assert_eq!(receive(&mut through.client, 6), b"answer");

    let proxy = &through.proxy;
    eventually("bytes are counted", || {
        (proxy.bytes(Way::ToServer), proxy.bytes(Way::ToClient)) == (8, 6)
    });
    assert_eq!((proxy.connections(), proxy.connections_ever()), (1, 1));
    let another = through.another();
    eventually("connections are counted", || proxy.connections() == 2);
    drop(another);
    eventually("ended ones are not", || proxy.connections() == 1);
    assert_eq!(proxy.connections_ever(), 2);
    assert_eq!(proxy.effects().total(), 0);
}

#[test]
fn megabytes_arrive_whole_and_the_end_does_too() {
    let through = Through::connect();
    let sent: Vec<u8> = (0..4_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    let (mut client, mut server) = (through.client, through.server);
    let bytes = sent.clone();
    let sender = std::thread::spawn(move || {
        send(&mut client, &bytes);
        drop(client);
    });
    let mut received = Vec::new();
    server.read_to_end(&mut received).unwrap();
    sender.join().unwrap();
    assert!(received == sent, "{} bytes of {}", received.len(), sent.len());
}

#[test]
fn latency_delays_one_way_only_and_does_not_add_up() {
    const LATENCY: Duration = Duration::from_millis(200);
    let mut through = Through::connect();
    through.proxy.delay(Way::ToServer, LATENCY, Duration::from_millis(50));

    let sent = Instant::now();
    for _ in 0..10 {
        send(&mut through.client, b"x");
        std::thread::sleep(Duration::from_millis(2));
    }
    receive(&mut through.server, 10);
    let took = sent.elapsed();
    assert!(took >= LATENCY, "{took:?}");
    assert!(took < LATENCY * 5, "each was delayed after the one before: {took:?}");

    let sent = Instant::now();
    send(&mut through.server, b"x");
    receive(&mut through.client, 1);
    assert!(sent.elapsed() < LATENCY);
    assert!(through.proxy.effects().delayed > 0);
}

#[test]
fn bandwidth_is_limited() {
    let mut through = Through::connect();
    through.proxy.limit(Way::ToServer, 100_000);
    let sent = Instant::now();
    send(&mut through.client, &[0; 50_000]);
    receive(&mut through.server, 50_000);
    let took = sent.elapsed();
    assert!(took >= Duration::from_millis(490), "{took:?}");
    assert!(through.proxy.effects().delayed > 0);
}

#[test]
fn what_is_stalled_arrives_when_healed() {
    let mut through = Through::connect();
    through.proxy.stall(Way::ToServer);
    send(&mut through.client, b"kept");
    assert_silent(&mut through.server);
    send(&mut through.server, b"x");
    assert_eq!(receive(&mut through.client, 1), b"x", "the other way is stalled, too");

    through.proxy.heal();
    assert_eq!(receive(&mut through.server, 4), b"kept");
    assert_eq!(through.proxy.effects().stalled, 1);
}

#[test]
fn what_vanishes_never_arrives_and_nothing_follows_it() {
    let mut through = Through::connect();
    through.proxy.black_hole(Way::ToClient);
    send(&mut through.server, b"lost");
    assert_silent(&mut through.client);
    send(&mut through.client, b"x");
    assert_eq!(receive(&mut through.server, 1), b"x", "the other way is silent, too");
    assert_eq!(through.proxy.effects().vanished, 1);

    through.proxy.heal();
    send(&mut through.server, b"after a gap");
    assert_silent(&mut through.client);
    let (mut client, mut server) = through.another();
    send(&mut server, b"new");
    assert_eq!(receive(&mut client, 3), b"new");
}

#[test]
fn the_end_of_a_connection_vanishes_too() {
    let mut through = Through::connect();
    through.proxy.black_hole(Way::ToServer);
    drop(through.client);
    assert_silent(&mut through.server);
    through.proxy.heal();
    assert_closed(&mut through.server);
}

#[test]
fn so_many_bytes_pass_before_others_vanish() {
    let mut through = Through::connect();
    through.proxy.lose_after(Way::ToClient, 3);
    send(&mut through.server, b"abcdef");
    assert_eq!(receive(&mut through.client, 3), b"abc");
    assert_silent(&mut through.client);
}

#[test]
fn so_many_bytes_pass_before_the_connection_is_cut_once() {
    for way in [Way::ToServer, Way::ToClient] {
        let mut through = Through::connect();
        through.proxy.cut_after(way, 3);
        let (from, to) = match way {
            Way::ToServer => (&mut through.client, &mut through.server),
            Way::ToClient => (&mut through.server, &mut through.client),
        };
        send(from, b"abcdef");
        assert_eq!(receive(to, 3), b"abc");
        assert_closed(to);
        assert_closed(from);
        let (mut client, mut server) = through.another();
        send(&mut client, b"abcdef");
        assert_eq!(receive(&mut server, 6), b"abcdef");
        assert_eq!(through.proxy.effects().cut, 1);
    }
}

#[test]
fn reset_connections_are_reset_at_both_ends_and_new_ones_work() {
    let mut through = Through::connect();
    through.proxy.reset_all();
    assert_eq!(through.proxy.connections(), 0);
    assert_reset(&mut through.client);
    assert_reset(&mut through.server);
    let (mut client, mut server) = through.another();
    send(&mut client, b"x");
    receive(&mut server, 1);
    assert_eq!(through.proxy.effects().reset, 1);
}

#[test]
fn new_connections_are_refused_until_healed() {
    let mut through = Through::connect();
    through.proxy.refuse();
    let error = TcpStream::connect(through.proxy.address()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    send(&mut through.client, b"x");
    receive(&mut through.server, 1);

    through.proxy.heal();
    through.another();
}

#[test]
fn new_connections_are_accepted_and_not_answered() {
    let server = RedisServer::shared();
    let proxy = FaultProxy::start(server.address());
    proxy.accept_and_say_nothing();
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    send(&mut client, PING);
    assert_silent(&mut client);
    assert_eq!(proxy.effects().muted, 1);

    proxy.heal();
    assert_silent(&mut client);
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    send(&mut client, PING);
    assert_eq!(receive(&mut client, PONG.len()), PONG);
}

#[test]
fn a_client_of_a_server_that_is_gone_is_reset() {
    let server = RedisServer::start(&[]);
    let proxy = FaultProxy::start(server.address());
    server.kill();
    assert_reset(&mut TcpStream::connect(proxy.address()).unwrap());
}

#[test]
fn a_dropped_proxy_ends_its_connections() {
    let Through { proxy, mut client, mut server, .. } = Through::connect();
    let address = proxy.address();
    drop(proxy);
    assert_closed(&mut client);
    assert_closed(&mut server);
    let error = TcpStream::connect(address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn the_reply_to_one_request_is_lost_and_the_request_is_done() {
    let server = RedisServer::shared();
    let proxy = FaultProxy::start(server.address());
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    let mut another = TcpStream::connect(proxy.address()).unwrap();
    send(&mut client, PING);
    receive(&mut client, PONG.len());

    proxy.lose_reply_to(b"SET lost-reply");
    send(&mut client, b"SET lost-reply done\r\n");
    assert_silent(&mut client);
    assert_eq!(server.cli(&["GET", "lost-reply"]), "done");
    send(&mut another, b"SET lost-reply again\r\n");
    assert_eq!(receive(&mut another, 5), b"+OK\r\n");
}

#[test]
fn commands_of_redis_are_counted() {
    let proxy = FaultProxy::start(RedisServer::shared().address());
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    for _ in 0..3 {
        send(&mut client, &[PING, PING].concat());
        receive(&mut client, 2 * PONG.len());
    }
    assert_eq!(proxy.requests(), 6);
}

#[test]
fn queries_of_postgres_are_counted() {
    let server = PostgresServer::shared();
    let proxy = FaultProxy::start(server.address());
    let url = server.url_by(proxy.port());
    let mut psql = std::process::Command::new("psql");
    psql.args(["-XqAt", "-c", "SELECT 1", "-c", "SELECT 2", &url]);
    let output = psql.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n2\n", "{output:?}");
    assert_eq!(proxy.requests(), 2);
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + COMES_WITHIN;
    while !is_so() {
        assert!(Instant::now() < deadline, "not so: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A request that is held closes its connection for the client at once and reaches the server later.
#[test]
fn a_held_request_arrives_after_its_connection_was_closed() {
    let server = RedisServer::shared();
    let proxy = FaultProxy::start(server.address());
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    proxy.hold_request(b"held-request");
    client.write_all(b"SET held-request late PX 60000\r\n").unwrap();
    let mut reply = [0; 5];
    assert!(matches!(client.read(&mut reply), Ok(0) | Err(_)), "the connection is closed");
    assert_eq!(server.cli(&["GET", "held-request"]), "");
    let mut next = TcpStream::connect(proxy.address()).unwrap();
    next.write_all(PING).unwrap();
    next.read_exact(&mut reply).unwrap();
    assert_eq!(proxy.held_requests(), 1);
    proxy.deliver();
    assert_eq!((server.cli(&["GET", "held-request"]).as_str(), proxy.held_requests()), ("late", 0));
}
