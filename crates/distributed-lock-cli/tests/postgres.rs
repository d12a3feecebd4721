//! Locks on PostgreSQL.
#![cfg(target_os = "linux")]

#[cfg(test)]
mod support;

use std::time::Duration;

use distributed_lock_testkit::servers::PostgresServer;
use support::service::Service;
use support::{Running, output};

/// How soon after the end of its session a lock is free.
const FREED_WITHIN: Duration = Duration::from_secs(1);

fn postgres() -> Service {
    Service(PostgresServer::shared().url())
}

#[test]
fn a_waiter_is_told_the_holders_application_host_and_backend() {
    let first = postgres().hold("told");
    let backend = PostgresServer::shared()
        .psql("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2")
        .unwrap();
    let mut second = Running::start(&mut postgres().run(&["told", "--", "echo", "second"]));
    second.err.expect("waiting for \"told\", held by ");
    second.err.expect(&format!("pid {}: sh -c", first.pid()));
    second.err.expect("PostgreSQL session ");
    let session = second.err.expect(" on 127.0.0.1");
    // Other tests hold locks, too.
    assert!(backend.lines().any(|pid| session == format!("{pid} on 127.0.0.1")), "{session}");
    drop(first);
    assert_eq!(second.status(), 0);
    assert_eq!(second.out.rest(), "second\n");
}

#[test]
fn the_command_has_a_token_and_the_exit_status_is_its_own() {
    postgres().gives_the_command_a_token_and_its_status_back();
}

#[test]
fn a_command_ends_with_a_dlock_that_is_killed() {
    postgres().ends_the_command_of_a_killed_dlock(FREED_WITHIN);
}

#[test]
fn a_lost_session_ends_the_command() {
    let mut first = postgres().hold("lost session");
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
    let (status, _, err) = output(&mut Service(url).run(&["x", "--", "true"]));
    assert_eq!(status, 69, "{err}");
    assert!(err.contains("password authentication failed"), "{err}");
    assert!(!err.contains("private-server"), "{err}");
}
