//! Waiting for the lock, and not getting it.
#![cfg(unix)]

#[cfg(test)]
mod support;

use nix::sys::signal::Signal;
use support::{HOLD, Place, Running};

#[test]
fn the_second_waits_says_for_whom_and_runs_when_the_first_has_ended() {
    let place = Place::new();
    let mut first = place.hold("x");
    let mut second = Running::start(&mut place.run(&["x", "--", "echo", "second"]));
    second.err.expect("dlock: waiting for \"x\", held by pid ");
    second.err.expect(&format!("{} on ", first.pid()));
    first.end_input();
    assert_eq!(first.status(), 0);
    assert_eq!(second.status(), 0);
    assert_eq!(second.out.rest(), "second\n");
}

#[test]
fn other_names_do_not_wait() {
    let place = Place::new();
    let _first = place.hold("x");
    assert_eq!(place.output(&["--no-wait", "X", "--", "true"]).0, 0);
}

#[test]
fn not_acquired_is_75_or_what_the_user_says() {
    let place = Place::new();
    let _first = place.hold("x");
    let run = |args: &[&str]| {
        let (status, out, err) = place.output(&[args, &["x", "--", "echo", "ran"]].concat());
        assert_eq!(out, "", "{args:?}");
        (status, err)
    };
    let (status, err) = run(&["--no-wait"]);
    assert_eq!(status, 75);
    // By whom is looked up once, and on a busy machine the kernel does not always tell.
    assert!(err.starts_with("dlock: cannot get \"x\", held by "), "{err}");
    let (status, err) = run(&["--wait", "300ms"]);
    assert_eq!(status, 75);
    assert!(err.contains("waiting for \"x\"") && err.contains("waited 300ms"), "{err}");
    assert_eq!(run(&["--wait", "0"]).0, 75);
    assert_eq!(run(&["--no-wait", "--conflict-exit-code", "0"]).0, 0);
    assert_eq!(run(&["--wait", "1ms", "--conflict-exit-code", "255"]).0, 255);
    assert_eq!(run(&["--quiet", "--wait", "300ms"]), (75, String::new()));
    assert_eq!(run(&["--quiet", "--no-wait"]), (75, String::new()));
}

#[test]
fn a_signal_ends_the_waiting_and_leaves_nothing_behind() {
    let place = Place::new();
    let mut first = place.hold("x");
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        let mut second = Running::start(&mut place.run(&["x", "--", "echo", "second"]));
        second.err.expect("waiting for");
        second.signal(signal);
        assert_eq!(second.signal_of_end(), Some(signal as i32));
        assert_eq!(second.out.rest(), "");
    }
    first.end_input();
    assert_eq!(first.status(), 0);
    assert!(place.is_free("x"));
}

#[test]
fn the_lock_outlives_a_killed_dlock_until_its_command_has_ended() {
    let place = Place::new();
    let mut first = Running::start(&mut place.run(&["x", "--", "sh", "-c", HOLD]));
    first.out.expect("holding");
    let input = first.take_input();
    first.signal(Signal::SIGKILL);
    assert_eq!(first.wait().code(), None);
    assert!(!place.is_free("x"));

    let mut second = Running::start(&mut place.run(&["x", "--", "echo", "second"]));
    second.err.expect("waiting for");
    drop(input);
    assert_eq!(second.status(), 0);
    assert_eq!(second.out.rest(), "second\n");
}

#[test]
fn what_the_command_leaves_running_does_not_keep_the_lock() {
    let place = Place::new();
    // Its own group's rest goes on, as in a shell, and ends with the input.
    let script = "exec 3<&0; cat <&3 >/dev/null & echo left";
    let mut first = Running::start(&mut place.run(&["x", "--", "sh", "-c", script]));
    first.out.expect("left");
    assert_eq!(first.status(), 0);
    assert!(place.is_free("x"));
    first.end_input();
}

#[test]
fn readers_run_together_and_a_writer_alone() {
    let place = Place::new();
    let mut held = place.run(&["--read", "name", "--", "sh", "-c", HOLD]);
    let reader = Running::start(&mut held);
    reader.out.expect("holding");
    let status = |mode| place.output(&["--no-wait", mode, "name", "--", "true"]).0;
    assert_eq!(status("--read"), 0);
    assert_eq!(status("--write"), 75);
    assert!(!place.is_free("name"));
    drop(reader);
}

#[test]
fn permits_are_counted() {
    let place = Place::new();
    let run = ["--permits", "2", "name", "--", "sh", "-c", HOLD];
    let holders: Vec<_> = (0..2)
        .map(|_| {
            let holder = Running::start(&mut place.run(&run));
            holder.out.expect("holding");
            holder
        })
        .collect();
    let none_left = ["--no-wait", "--permits", "2", "name", "--", "true"];
    assert_eq!(place.output(&none_left).0, 75);
    assert_eq!(place.output(&["--no-wait", "--permits", "3", "name", "--", "true"]).0, 0);
    assert!(place.is_free("name"), "the mutex is another lock");
    assert_eq!(place.output(&["--permits", "0", "name", "--", "true"]).0, 64);
    assert_eq!(place.output(&["--permits", "65537", "name", "--", "true"]).0, 69);
    drop(holders);
}

#[test]
fn a_waiter_for_a_permit_is_told_a_holder() {
    let place = Place::new();
    let holds = ["--permits", "1", "p", "--", "sh", "-c", support::HOLD];
    let mut first = Running::start(&mut place.run(&holds));
    first.out.expect("holding");
    let mut second = Running::start(&mut place.run(&["--permits", "1", "p", "--", "true"]));
    second.err.expect(&format!("dlock: waiting for \"p\", held by pid {} on ", first.pid()));
    second.err.expect(": sh -c ");
    first.end_input();
    assert_eq!(first.status(), 0);
    assert_eq!(second.status(), 0);
}
