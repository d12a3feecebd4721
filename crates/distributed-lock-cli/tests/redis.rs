//! Locks on Redis.
#![cfg(target_os = "linux")]

#[cfg(test)]
mod support;

use std::time::Duration;

use distributed_lock_testkit::history::now;
use distributed_lock_testkit::servers::RedisServer;
use nix::sys::signal::Signal;
use support::Running;
use support::service::Service;

const LEASE: Duration = Duration::from_secs(1);

/// A second more than the lease that nobody renews.
const FREED_WITHIN: Duration = Duration::from_secs(2);

/// How soon a command is ended whose lock is lost: the cadence of renewals and what it does with it.
const LOST_WITHIN: Duration = Duration::from_secs(2);

fn redis(options: &str) -> Service {
    let url = RedisServer::shared().url();
    Service(format!("{url}?expiry={}ms{options}", LEASE.as_millis()))
}

#[test]
fn a_waiter_is_told_the_holders_label() {
    for mode in [&["--write"][..], &["--read"], &["--permits", "1"]] {
        let name = format!("told {mode:?}");
        let holds = [mode, &[&name, "--", "sh", "-c", support::HOLD]].concat();
        let mut first = Running::start(&mut redis("&owner_label=nightly%20backup").run(&holds));
        first.out.expect("holding");
        let wants = if mode == ["--read"] { &["--write"] } else { mode };
        let waits = [wants, &[&name, "--", "echo", "second"]].concat();
        let mut second = Running::start(&mut redis("").run(&waits));
        second.err.expect(&format!("dlock: waiting for {name:?}, held by nightly backup\n"));
        first.end_input();
        assert_eq!(first.status(), 0);
        assert_eq!(second.status(), 0);
        assert_eq!(second.out.rest(), "second\n");
    }
}

#[test]
fn the_command_has_a_token_and_the_exit_status_is_its_own() {
    redis("").gives_the_command_a_token_and_its_status_back();
}

#[test]
fn row_48_a_command_ends_with_a_dlock_that_is_killed() {
    redis("").ends_the_command_of_a_killed_dlock(FREED_WITHIN);
}

/// It does not go on until its lease would have ended, and others have the lock.
#[test]
fn a_deleted_key_ends_the_command() {
    let mut first = redis("").hold("deleted");
    assert_eq!(RedisServer::shared().cli(&["DEL", "distributed-lock:deleted"]), "1");
    let deleted = now();
    assert_eq!(first.status(), 76);
    let took = now() - deleted;
    assert!(took < LOST_WITHIN, "{took:?}");
    assert!(first.err.rest().contains("lost the lock \"deleted\""));
}

/// Who was stopped past its lease ends its command as soon as it goes on.
#[test]
fn a_dlock_that_was_stopped_past_its_lease_ends_its_command() {
    let mut first = redis("").hold("stopped");
    first.signal(Signal::SIGSTOP);
    let wait = format!("{}ms", FREED_WITHIN.as_millis());
    assert_eq!(redis("").output(&["--wait", &wait, "stopped", "--", "true"]).0, 0);
    first.signal(Signal::SIGCONT);
    assert_eq!(first.status(), 76);
    assert!(first.err.rest().contains("lost the lock \"stopped\""));
}

#[test]
fn a_password_is_not_told() {
    let port = RedisServer::shared().port();
    let service = Service(format!("redis://user:s3cr3t@127.0.0.1:{port}"));
    let (status, _, err) = service.output(&["x", "--", "true"]);
    assert_eq!(status, 69, "{err}");
    assert!(!err.contains("s3cr3t"), "{err}");
}
