//! Redis answers, is struck, and comes back.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;

use distributed_lock_testkit::servers::{PASSWORD, RedisServer};

use crate::endings::exists;
use crate::{ANSWERS_WITHIN, next_byte};

#[test]
fn redis_answers_on_a_port_of_its_own() {
    let (one, other) = (RedisServer::shared(), RedisServer::start(&[]));
    assert_eq!(one.cli(&["PING"]), "PONG");
    assert!(one.cli(&["CONFIG", "GET", "port"]).ends_with(&one.port().to_string()));
    assert_ne!(one.port(), other.port());
    assert_eq!(one.cli(&["CONFIG", "GET", "appendonly"]), "appendonly\nno");
}

#[test]
fn a_killed_redis_refuses_and_comes_back_with_what_it_persisted() {
    let keeps = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let forgets = RedisServer::start(&[]);
    for server in [&keeps, &forgets] {
        assert_eq!(server.cli(&["SET", "name", "kept"]), "OK");
        let (pid, port) = (server.pid(), server.port());
        server.kill();
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
        assert!(!exists(pid), "it is still there, or defunct");
        server.restart();
        assert_eq!(server.port(), port);
    }
    assert_eq!(keeps.cli(&["GET", "name"]), "kept");
    assert_eq!(forgets.cli(&["GET", "name"]), "");
}

#[test]
fn redis_has_the_password_that_it_is_given() {
    let server = RedisServer::start(&["--requirepass", PASSWORD]);
    assert_eq!(server.cli(&["PING"]), "PONG");
    assert!(server.url().contains(PASSWORD));
    let mut without = Command::new("redis-cli");
    let said = without.args(["-p", &server.port().to_string(), "PING"]).output().unwrap().stdout;
    assert!(String::from_utf8_lossy(&said).starts_with("NOAUTH"));
}

#[test]
fn redis_speaks_tls_with_a_certificate_of_its_authority() {
    let server = RedisServer::builder().tls().start();
    let url = server.tls_url().unwrap();
    let ping = |authority: &Path| {
        let mut cli = Command::new("redis-cli");
        cli.args(["--tls", "--cacert"]).arg(authority).args(["-u", &url, "PING"]);
        String::from_utf8(cli.output().unwrap().stdout).unwrap()
    };
    assert_eq!(ping(server.ca_path().unwrap()), "PONG\n");

    let another = RedisServer::builder().tls().start();
    assert_eq!(ping(another.ca_path().unwrap()), "", "another authority's was trusted");
}

#[test]
fn redis_listens_on_a_socket_in_its_directory() {
    let server = RedisServer::start(&["--unixsocket", "socket"]);
    let socket = server.directory().join("socket");
    let output = Command::new("redis-cli").arg("-s").arg(socket).arg("PING").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "PONG\n");
}

#[test]
fn a_paused_redis_is_silent_until_it_goes_on() {
    let server = RedisServer::start(&[]);
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).unwrap();
    server.pause();
    client.write_all(b"PING\r\n").unwrap();
    assert_eq!(next_byte(&mut client), None);
    server.resume();
    client.set_read_timeout(Some(ANSWERS_WITHIN)).unwrap();
    let mut reply = [0; 7];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"+PONG\r\n");
}
