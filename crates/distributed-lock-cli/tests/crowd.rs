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
use distributed_lock_testkit::servers::RedisServer;
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

fn drains(what: &str, service: &Service, directory: &Path) {
    let crowd = std::env::var("CROWD").map_or(CROWD, |number| number.parse().unwrap());
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
    // Each says once that it waits.
    let mut lines = BufReader::new(err).lines();
    let mut waiting = 0;
    while waiting < crowd {
        let line = lines.next().unwrap().unwrap();
        waiting += usize::from(line.contains("waiting for \"crowd\""));
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
