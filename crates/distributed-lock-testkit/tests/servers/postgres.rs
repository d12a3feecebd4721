//! PostgreSQL answers, is struck, and comes back.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;

use distributed_lock_testkit::servers::{PASSWORD, PostgresServer, Signal};

use crate::endings::exists;
use crate::{ANSWERS_WITHIN, next_byte, start_of_session, user_of};

#[test]
fn postgres_answers_as_an_ordinary_user_on_a_port_of_its_own() {
    let (one, other) = (PostgresServer::shared(), PostgresServer::start(&[]));

    assert_eq!(one.psql("SELECT 1, 'two'").unwrap(), "1|two");
    assert_eq!(one.psql("SHOW port").unwrap(), one.port().to_string());
    assert_ne!(one.port(), other.port());
    assert_ne!(user_of(one.pid()), "0", "it runs as root");
    let pid = one.psql("SELECT pg_backend_pid()").unwrap();
    assert_ne!(pid, one.pid().to_string());
}

#[test]
fn postgres_has_the_settings_and_variables_that_it_is_given() {
    let server = PostgresServer::start(&[("fsync", "on"), ("max_connections", "17")]);
    assert_eq!(server.psql("SHOW fsync").unwrap(), "on");
    assert_eq!(server.psql("SHOW max_connections").unwrap(), "17");

    let server = PostgresServer::builder().env("TZ", "Asia/Tokyo").start();
    let environment = std::fs::read(format!("/proc/{}/environ", server.pid())).unwrap();
    assert!(String::from_utf8_lossy(&environment).contains("TZ=Asia/Tokyo"));
}

#[test]
fn a_standby_is_in_recovery() {
    let server = PostgresServer::builder().standby().start();
    assert_eq!(server.psql("SELECT pg_is_in_recovery()").unwrap(), "t");
    let refused = server.psql("CREATE TABLE written (number int)").unwrap_err();
    assert!(refused.contains("read-only transaction"), "{refused}");
    assert_eq!(PostgresServer::shared().psql("SELECT pg_is_in_recovery()").unwrap(), "f");
}

#[test]
fn postgres_wants_the_password() {
    let server = PostgresServer::shared();
    let url = server.url().replace(PASSWORD, "another");
    let output = Command::new("psql").args(["-c", "SELECT 1", &url]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("password authentication failed"), "{error}");
}

#[test]
fn a_killed_postgres_refuses_and_comes_back_with_its_data() {
    let server = PostgresServer::start(&[]);
    server.psql("CREATE TABLE kept AS SELECT 7 AS number").unwrap();
    let (pid, port) = (server.pid(), server.port());

    server.kill();
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    assert!(!exists(pid), "it is still there, or defunct");

    server.restart();
    assert_eq!(server.port(), port);
    assert_eq!(server.psql("SELECT number FROM kept").unwrap(), "7");
    assert!(server.log().contains("was interrupted"), "it was shut down in good order");
}

#[test]
fn a_stopped_postgres_comes_back_with_its_data() {
    let server = PostgresServer::start(&[]);
    server.psql("CREATE TABLE kept AS SELECT 7 AS number").unwrap();

    server.stop();
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).is_err());

    server.restart();
    assert_eq!(server.psql("SELECT number FROM kept").unwrap(), "7");
    assert!(!server.log().contains("was interrupted"), "it was not shut down in good order");
}

#[test]
fn a_paused_postgres_is_silent_until_it_goes_on() {
    let server = PostgresServer::start(&[]);
    let mut session = start_of_session(server.port());
    // The whole request for a password.
    let mut request = [0; 24];
    session.read_exact(&mut request).unwrap();
    server.pause();

    // A message of a kind that does not exist: a backend that runs would complain.
    session.write_all(b"?\0\0\0\x04").unwrap();
    // The port is open all the same.
    let mut another = start_of_session(server.port());
    assert_eq!(next_byte(&mut session), None);
    assert_eq!(next_byte(&mut another), None);

    server.resume();
    another.set_read_timeout(Some(ANSWERS_WITHIN)).unwrap();
    let mut first = [0];
    another.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"R");
}

#[test]
fn a_backend_that_crashes_takes_all_sessions_with_it() {
    let server = PostgresServer::start(&[]);
    let launcher = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'autovacuum launcher'";
    let launcher: i32 = server.psql(launcher).unwrap().parse().unwrap();
    let url = server.url();
    let sleeper = std::thread::spawn(move || {
        Command::new("psql").args(["-c", "SELECT pg_sleep(60)", &url]).output().unwrap()
    });
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'";
    let sleeps = (0..500).any(|_| server.psql(sleeps).unwrap() == "1");
    assert!(sleeps, "there is no session to be taken");

    server.signal_backend(launcher, Signal::KILL);

    let said = String::from_utf8(sleeper.join().unwrap().stderr).unwrap();
    assert!(said.contains("another server process exited abnormally"), "{said}");
}

#[test]
#[should_panic(expected = "is no process of")]
fn nobody_elses_process_is_sent_a_signal() {
    let ours = i32::try_from(std::process::id()).unwrap();
    PostgresServer::shared().signal_backend(ours, Signal::KILL);
}

#[test]
fn postgres_speaks_tls_with_a_certificate_of_its_authority() {
    let server = PostgresServer::builder().tls().start();
    let authority = server.ca_path().unwrap().display();
    let query = format!("?sslmode=verify-full&sslrootcert={authority}");
    let statement = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let tls = Command::new("psql").args(["-Atc", statement, &(server.url() + &query)]).output();
    let tls = tls.unwrap();
    assert_eq!(String::from_utf8_lossy(&tls.stdout), "t\n", "{tls:?}");

    let plain = PostgresServer::shared().url() + &query;
    let refused = Command::new("psql").args(["-Atc", statement, &plain]).output().unwrap();
    assert!(!refused.status.success(), "a server without TLS was trusted");
}
