//! pgbouncer pools as it is told.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};

use distributed_lock_testkit::servers::{Pgbouncer, PoolMode, PostgresServer};

use crate::{ANSWERS_WITHIN, next_byte, start_of_session, user_of};

/// One session for all, and an early end of the wait for it.
const ONE_SESSION: [(&str, &str); 2] = [("default_pool_size", "1"), ("query_wait_timeout", "1")];

/// A client that stays connected; ended when it is dropped.
struct Client {
    psql: Child,
    output: BufReader<ChildStdout>,
}

impl Client {
    fn connect(pgbouncer: &Pgbouncer) -> Self {
        let mut psql = Command::new("psql");
        psql.args(["-XqAt", &pgbouncer.url()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut psql = psql.spawn().unwrap();
        let output = BufReader::new(psql.stdout.take().unwrap());
        Self { psql, output }
    }

    fn ask(&mut self, statement: &str) -> String {
        writeln!(self.psql.stdin.as_mut().unwrap(), "{statement};").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.psql.kill().unwrap();
        self.psql.wait().unwrap();
    }
}

#[test]
fn it_answers_as_an_ordinary_user() {
    let pgbouncer = Pgbouncer::start(PostgresServer::shared(), PoolMode::Session);
    assert_eq!(pgbouncer.psql("SELECT 1").unwrap(), "1");
    assert_ne!(user_of(pgbouncer.pid()), "0", "it runs as root");
    assert_ne!(pgbouncer.port(), PostgresServer::shared().port());
}

#[test]
fn a_session_pool_keeps_a_session_for_its_client() {
    let server = PostgresServer::shared();
    let pgbouncer = Pgbouncer::start_with(server, PoolMode::Session, &ONE_SESSION);
    let mut client = Client::connect(&pgbouncer);
    let backend = client.ask("SELECT pg_backend_pid()");

    let refused = pgbouncer.psql("SELECT 1").unwrap_err();
    assert!(refused.contains("query_wait_timeout"), "{refused}");
    assert_eq!(client.ask("SELECT pg_backend_pid()"), backend);
}

#[test]
fn a_transaction_pool_gives_a_session_with_what_is_prepared_there_to_anybody() {
    let server = PostgresServer::shared();
    let pgbouncer = Pgbouncer::start_with(server, PoolMode::Transaction, &ONE_SESSION);
    let mut client = Client::connect(&pgbouncer);
    let backend = client.ask("PREPARE mine AS SELECT 1; SELECT pg_backend_pid()");

    assert_eq!(pgbouncer.psql("SELECT pg_backend_pid()").unwrap(), backend);
    let refused = pgbouncer.psql("PREPARE mine AS SELECT 2").unwrap_err();
    assert!(refused.contains("already exists"), "{refused}");
}

#[test]
fn a_killed_pgbouncer_refuses_and_comes_back() {
    let pgbouncer = Pgbouncer::start(PostgresServer::shared(), PoolMode::Transaction);
    pgbouncer.kill();
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, pgbouncer.port())).is_err());
    pgbouncer.restart();
    assert_eq!(pgbouncer.psql("SELECT 1").unwrap(), "1");
}

#[test]
fn a_paused_pgbouncer_is_silent_until_it_goes_on() {
    let pgbouncer = Pgbouncer::start(PostgresServer::shared(), PoolMode::Transaction);
    pgbouncer.pause();
    let mut session = start_of_session(pgbouncer.port());
    assert_eq!(next_byte(&mut session), None);
    pgbouncer.resume();
    session.set_read_timeout(Some(ANSWERS_WITHIN)).unwrap();
    let mut first = [0];
    std::io::Read::read_exact(&mut session, &mut first).unwrap();
    assert_eq!(&first, b"R");
}
