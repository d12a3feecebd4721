//! Many `dlock` processes that wait for one name: all of them get it, one after the other.
//!
//! `CROWD=1000 cargo test -p distributed-lock-cli --test crowd -- --nocapture` prints the figures of a
//! thousand.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

#[cfg(test)]
mod support;

use std::io::{BufRead, BufReader, Read, pipe};
use std::path::Path;
use std::process::{Child, Stdio};

use distributed_lock_testkit::history::now;
use distributed_lock_testkit::servers::{PostgresServer, RedisServer};
use support::service::Service;

/// How many wait, unless `CROWD` says otherwise.
const CROWD: usize = 40;

/// Says that it ran, or that another ran at the same time.
const COMMAND: &str = "mkdir held && echo ran || echo OVERLAP; rmdir held";

#[test]
fn a_crowd_of_waiting_dlocks_drains_on_files() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file://{}/locks", directory.path().display());
    drains("files", &Service(url), directory.path());
}

#[test]
fn a_crowd_of_waiting_dlocks_drains_on_redis() {
    let directory = tempfile::tempdir().unwrap();
    drains("Redis", &Service(RedisServer::shared().url()), directory.path());
}

/// The server has connections for a third of them; the others ask for one again and again.
#[test]
fn row_54_a_crowd_of_waiting_dlocks_drains_on_postgresql_without_room_for_all() {
    let directory = tempfile::tempdir().unwrap();
    let connections = (crowd() * 3 / 10).to_string();
    let server = PostgresServer::start(&[("max_connections", &connections)]);
    drains("PostgreSQL", &Service(server.url()), directory.path());
}

fn crowd() -> usize {
    std::env::var("CROWD").map_or(CROWD, |number| number.parse().unwrap())
}

fn drains(what: &str, service: &Service, directory: &Path) {
    let crowd = crowd();
    let mut holder = service.hold("crowd");
    let ((out, out_end), (err, err_end)) = (pipe().unwrap(), pipe().unwrap());
    let start = |_| {
        let mut dlock = service.run(&["crowd", "--", "sh", "-c", COMMAND]);
        dlock.current_dir(directory).stdin(Stdio::null());
        dlock.stdout(out_end.try_clone().unwrap()).stderr(err_end.try_clone().unwrap());
        dlock.spawn().unwrap()
    };
    let began = now();
    let children: Vec<Child> = (0..crowd).map(start).collect();
    drop((out_end, err_end));
    // Each says that it waits, that there is no room for it yet, or why it ends.
    let mut lines = BufReader::new(err).lines();
    let mut waiting = 0;
    while waiting < crowd {
        let line = lines.next().unwrap().unwrap();
        let says = ["waiting for \"crowd\"", "trying again", "cannot"];
        waiting += usize::from(says.into_iter().any(|text| line.contains(text)));
    }
    let all_wait = now();
    // What they say later must not fill the pipe.
    let rest = std::thread::spawn(move || lines.map(Result::unwrap).collect::<Vec<_>>());
    holder.end_input();
    let mut ran = String::new();
    BufReader::new(out).read_to_string(&mut ran).unwrap();
    let took = now() - all_wait;
    let statuses = children.into_iter().map(|mut child| child.wait().unwrap());
    let failed = statuses.filter(|status| !status.success()).count();
    let rest = rest.join().unwrap();
    println!(
        "{crowd} on {what}: all waited after {:.1?}, drained in {took:.1?}, {:.1?} each",
        all_wait - began,
        took / u32::try_from(crowd).unwrap()
    );
    assert_eq!(failed, 0, "{rest:?}");
    assert_eq!(ran, "ran\n".repeat(crowd), "{rest:?}");
    assert_eq!(holder.status(), 0);
}
