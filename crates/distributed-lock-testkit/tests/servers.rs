//! Private servers do what tests rely on: they answer, die, come back with their data, and leave
//! nothing behind.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "it is a test")]

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use distributed_lock_testkit::servers::{PASSWORD, PostgresServer, RedisServer, Signal};

/// Makes this test program start servers and say which.
const ROLE: &str = "DISTRIBUTED_LOCK_SERVERS_OWNER";

/// For how long it is watched that nobody answers.
const WATCHED_FOR: Duration = Duration::from_millis(300);

/// How soon servers have ended after their owner.
const ENDED_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn postgres_answers_as_an_ordinary_user_on_a_port_of_its_own() {
    let (one, other) = (PostgresServer::shared(), PostgresServer::start(&[]));

    assert_eq!(one.psql("SELECT 1, 'two'").unwrap(), "1|two");
    assert_eq!(one.psql("SHOW port").unwrap(), one.port().to_string());
    assert_ne!(one.port(), other.port());
    assert_ne!(owner_of(one.pid()), "0", "it runs as root");
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
    assert_eq!(next_byte(&mut session), Some(b'R'), "a backend that runs answers");
    server.pause();

    // The backend stands, as does the postmaster: the port is open all the same.
    session.write_all(b"X").unwrap();
    assert_eq!(next_byte(&mut start_of_session(server.port())), None);
    server.resume();
    assert_eq!(server.psql("SELECT 1").unwrap(), "1");
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
    while server.psql(sleeps).unwrap() != "1" {}

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
    client.set_read_timeout(Some(ENDED_WITHIN)).unwrap();
    let mut reply = [0; 7];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"+PONG\r\n");
}

#[test]
#[should_panic(expected = "no_such_setting")]
fn a_server_that_does_not_start_says_why() {
    let _ = PostgresServer::start(&[("no_such_setting", "1")]);
}

#[test]
fn a_dropped_server_leaves_nothing() {
    let (postgres, redis) = (PostgresServer::start(&[]), RedisServer::start(&[]));
    let left = [
        (postgres.pid(), postgres.directory().to_owned()),
        (redis.pid(), redis.directory().to_owned()),
    ];
    redis.pause();
    drop((postgres, redis));
    for (pid, directory) in left {
        assert!(!exists(pid), "it is still there, or defunct");
        assert!(!directory.exists());
    }
}

#[test]
fn many_servers_at_once_have_different_ports() {
    let starting: Vec<_> = (0..8).map(|_| std::thread::spawn(|| RedisServer::start(&[]))).collect();
    let servers: Vec<_> = starting.into_iter().map(|start| start.join().unwrap()).collect();
    let mut ports: Vec<_> = servers.iter().map(RedisServer::port).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 8);
}

/// Where an owner of servers starts. Run as a test, it has nothing to do.
#[test]
fn owner_entry() {
    let Some(role) = env::var_os(ROLE) else { return };
    let (postgres, redis) = (PostgresServer::shared(), RedisServer::start(&[]));
    let kept = postgres.directory().display();
    println!("\nowns {} {} {kept}", postgres.pid(), redis.pid());
    if role == "exits" {
        std::process::exit(0);
    }
    loop {
        std::thread::park();
    }
}

#[test]
fn servers_end_when_their_owner_is_killed() {
    let (mut owner, pids, directory) = start_owner("waits");
    assert!(pids.iter().all(|pid| exists(*pid)));
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert_all_ended(&pids, &directory);
}

#[test]
fn servers_end_when_their_owner_exits() {
    let (mut owner, pids, directory) = start_owner("exits");
    owner.wait().unwrap();
    assert_all_ended(&pids, &directory);
}

fn start_owner(role: &str) -> (Child, Vec<u32>, String) {
    let mut program = Command::new(env::current_exe().unwrap());
    program.args(["--exact", "owner_entry", "--nocapture"]).env(ROLE, role);
    let mut owner = program.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines().map_while(Result::ok);
    let said: Vec<String> = lines
        .filter_map(|line| Some(line.strip_prefix("owns ")?.to_owned()))
        .take(1)
        .flat_map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let pids = said[..2].iter().map(|pid| pid.parse().unwrap()).collect();
    (owner, pids, said[2].clone())
}

/// Their parent is gone, so they are defunct until whoever adopted them looks.
#[expect(clippy::disallowed_methods, reason = "the end of others' children is no event for us")]
fn assert_all_ended(pids: &[u32], directory: &str) {
    let deadline = std::time::Instant::now() + ENDED_WITHIN;
    while pids.iter().any(|pid| works(*pid)) || Path::new(directory).exists() {
        assert!(std::time::Instant::now() < deadline, "{pids:?} or {directory} is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Neither gone nor defunct.
fn works(pid: u32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok()
}

fn owner_of(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
    line.split_whitespace().nth(1).unwrap().to_owned()
}

fn start_of_session(port: u16) -> TcpStream {
    let mut session = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    session.write_all(b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0").unwrap();
    session
}

/// What comes within a short time.
fn next_byte(stream: &mut TcpStream) -> Option<u8> {
    stream.set_read_timeout(Some(WATCHED_FOR)).unwrap();
    let mut byte = [0];
    (stream.read(&mut byte).ok()? == 1).then_some(byte[0])
}
