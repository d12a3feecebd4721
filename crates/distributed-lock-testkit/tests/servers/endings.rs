//! Servers that have failed, been dropped or lost their owner leave nothing.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use distributed_lock_testkit::servers::{PostgresServer, RedisServer};

/// Makes this test program start servers and say which.
const ROLE: &str = "DISTRIBUTED_LOCK_SERVERS_OWNER";

/// How soon servers have ended after their owner.
const ENDED_WITHIN: Duration = Duration::from_secs(10);

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
    program.args(["--exact", "endings::owner_entry", "--nocapture"]).env(ROLE, role);
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

/// Running or defunct.
pub(crate) fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Neither gone nor defunct.
fn works(pid: u32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok()
}
