//! Signals that are passed on, and the loss of the lock.
#![cfg(unix)]

#[cfg(test)]
mod support;

use std::process::Command;

use nix::sys::signal::Signal;
use support::{HOLD, Place, Running};

/// Answers a signal with a line and ends; otherwise it ends after a while.
fn answering(signal: &str, answer: &str) -> String {
    // A trap waits for the command that runs: nothing here may block.
    let busy = "i=0; while [ $i -lt 10000000 ]; do i=$((i + 1)); done";
    format!("trap '{answer}' {signal}; echo ready; {busy}")
}

#[test]
fn signals_are_passed_on() {
    let place = Place::new();
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ] {
        let name = signal.as_str().trim_start_matches("SIG");
        let script = answering(name, "echo got it; exit 9");
        let mut running = Running::start(&mut place.run(&["x", "--", "sh", "-c", &script]));
        running.out.expect("ready");
        running.signal(signal);
        assert_eq!(running.status(), 9, "{signal}");
        assert_eq!(running.out.rest(), "\ngot it\n", "{signal}");
        assert!(place.is_free("x"));
    }
}

#[test]
fn row_66_dlock_dies_by_the_signal_that_ends_its_command() {
    let place = Place::new();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1, Signal::SIGHUP] {
        let mut running = place.hold("x");
        running.signal(signal);
        assert_eq!(running.signal_of_end(), Some(signal as i32));
        assert_eq!(running.err.rest(), "");
    }
}

#[test]
fn the_whole_group_gets_the_signal() {
    let place = Place::new();
    let script = "sh -c 'echo inner; exec cat >/dev/null'; echo not reached";
    let mut running = Running::start(&mut place.run(&["x", "--", "sh", "-c", script]));
    running.out.expect("inner\n");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.signal_of_end(), Some(15));
    assert_eq!(running.out.rest(), "");
}

#[test]
fn signals_that_dlock_was_started_to_ignore_stay_ignored() {
    let place = Place::new();
    let inner = place.run(&["x", "--", "sh", "-c", "kill -HUP $$; echo ready; cat"]);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.env("DISTRIBUTED_LOCK_URL", place.url());
    let mut running = Running::start(&mut command);
    running.out.expect("ready\n");
    running.signal(Signal::SIGHUP);
    running.write("still there");
    running.end_input();
    assert_eq!(running.status(), 0);
    assert_eq!(running.out.rest(), "still there");
}

#[test]
fn a_lost_lock_ends_the_command() {
    let place = Place::new();
    let script = answering("TERM", "echo told; exit 0");
    // Also in a quiet run.
    let mut running = Running::start(&mut place.run(&["-q", "x", "--", "sh", "-c", &script]));
    running.out.expect("ready");
    place.remove_files();
    assert_eq!(running.status(), 76);
    assert_eq!(running.out.rest(), "\ntold\n");
    let err = running.err.rest();
    assert!(err.starts_with("dlock: lost the lock \"x\""), "{err}");
}

#[test]
fn a_lost_lock_ends_a_command_that_is_stopped() {
    let place = Place::new();
    let script = "echo ready; kill -STOP $$; echo not reached";
    let mut running = Running::start(&mut place.run(&["x", "--", "sh", "-c", script]));
    running.out.expect("ready");
    place.remove_files();
    assert_eq!(running.status(), 76);
    assert_eq!(running.out.rest(), "\n");
}

#[test]
fn a_lost_lock_ends_a_command_that_does_not_listen() {
    let place = Place::new();
    let script = format!("trap '' TERM; {HOLD}");
    let mut running = Running::start(&mut place.run(&["x", "--", "sh", "-c", &script]));
    running.out.expect("holding");
    place.remove_files();
    assert_eq!(running.status(), 76);
    running.out.rest();
}
