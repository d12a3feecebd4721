//! Locks on a server.
#![cfg(target_os = "linux")]

#[cfg(test)]
mod support;

use std::process::Command;
use std::time::Duration;

use distributed_lock_testkit::servers::PostgresServer;
use nix::sys::signal::Signal;
use support::{HOLD, Running, dlock, output};

/// How soon after the end of `dlock` its command has ended and the lock is free.
const FREED_WITHIN: Duration = Duration::from_secs(1);

fn run(args: &[&str]) -> Command {
    let mut command = dlock();
    command.arg("run").args(args);
    command.env("DISTRIBUTED_LOCK_URL", PostgresServer::shared().url());
    command
}

fn hold(name: &str) -> Running {
    let running = Running::start(&mut run(&[name, "--", "sh", "-c", HOLD]));
    running.out.expect("holding");
    running
}

#[test]
fn a_waiter_is_told_the_holders_application_host_and_backend() {
    let first = hold("told");
    let backend = PostgresServer::shared()
        .psql("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2")
        .unwrap();
    let mut second = Running::start(&mut run(&["told", "--", "echo", "second"]));
    second.err.expect("dlock: waiting for \"told\", held by ");
    second.err.expect(&format!("pid {} on 127.0.0.1 (distributed-lock)", backend.trim()));
    drop(first);
    assert_eq!(second.status(), 0);
    assert_eq!(second.out.rest(), "second\n");
}

#[test]
fn the_command_has_a_token_and_the_exit_status_is_its_own() {
    let script = "test \"$DISTRIBUTED_LOCK_TOKEN\" -gt 0 && exit 7";
    let (status, _, err) = output(&mut run(&["a token, please", "--", "sh", "-c", script]));
    assert_eq!((status, err.as_str()), (7, ""));
    let (status, _, err) = output(&mut run(&["not there", "--", "no-such-program"]));
    assert_eq!(status, 127);
    assert!(err.contains("cannot find \"no-such-program\""), "{err}");
}

#[test]
fn a_command_ends_with_a_dlock_that_is_killed() {
    let mut dlock = Running::start(&mut run(&["killed", "--", "sh", "-c", "echo $$; exec cat"]));
    let command = dlock.out.expect("\n");
    let command = command.trim().to_owned();
    dlock.signal(Signal::SIGKILL);
    dlock.wait();
    let wait = format!("{}ms", FREED_WITHIN.as_millis());
    assert_eq!(output(&mut run(&["--wait", &wait, "killed", "--", "true"])).0, 0);
    assert!(!runs(&command), "the command goes on");
}

/// Whether a process is there and not merely waiting to be reaped.
fn runs(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

#[test]
fn a_lost_session_ends_the_command() {
    let mut first = hold("lost session");
    let ended = PostgresServer::shared()
        .psql(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted \
             AND objsubid = 1",
        )
        .unwrap();
    assert_eq!(ended.trim(), "t");
    assert_eq!(first.status(), 76);
    assert!(first.err.rest().contains("lost"));
}

#[test]
fn a_password_is_not_told() {
    let url = PostgresServer::shared().url().replace("password", "passwort");
    let mut wrong = run(&["x", "--", "true"]);
    let (status, _, err) = output(wrong.env("DISTRIBUTED_LOCK_URL", &url));
    assert_eq!(status, 69, "{err}");
    assert!(err.contains("password authentication failed"), "{err}");
    assert!(!err.contains("private-server"), "{err}");
}
