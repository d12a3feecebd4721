//! The command: its status, environment, input and output, and what stops it from running.
#![cfg(unix)]

#[cfg(test)]
mod support;

use std::os::unix::fs::PermissionsExt;

use support::{Place, Running, dlock, output};

#[test]
fn the_exit_status_is_the_commands() {
    let place = Place::new();
    for (script, expected) in
        [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137), ("kill $$", 143)]
    {
        let (status, out, err) = place.output(&["x", "--", "sh", "-c", script]);
        assert_eq!((status, out.as_str(), err.as_str()), (expected, "", ""), "{script}");
    }
}

#[test]
fn it_knows_the_name_and_a_token_that_grows() {
    let place = Place::new();
    let token = || -> u64 {
        let script = "echo \"$DISTRIBUTED_LOCK_NAME|$DISTRIBUTED_LOCK_TOKEN\"";
        let (status, out, _) = place.output(&["a b/c", "--", "sh", "-c", script]);
        assert_eq!(status, 0);
        out.trim().strip_prefix("a b/c|").expect(&out).parse().unwrap()
    };
    let first = token();
    assert!(token() > first);
}

#[test]
fn it_has_dlocks_input_and_output() {
    let place = Place::new();
    let mut running = Running::start(&mut place.run(&["x", "--", "sh", "-c", "cat; echo e >&2"]));
    running.write("through and through");
    running.end_input();
    assert_eq!(running.status(), 0);
    assert_eq!(running.out.rest(), "through and through");
    assert_eq!(running.err.rest(), "e\n");
}

#[test]
fn it_inherits_one_descriptor_more_and_only_it_does() {
    let place = Place::new();
    let count = "ls /proc/self/fd | wc -l";
    let (_, bare, _) = output(std::process::Command::new("sh").args(["-c", count]));
    let (_, locked, _) = place.output(&["x", "--", "sh", "-c", count]);
    let (bare, locked): (u32, u32) = (bare.trim().parse().unwrap(), locked.trim().parse().unwrap());
    assert_eq!(locked, bare + 1);
}

#[test]
fn a_command_that_cannot_run_has_the_shells_status_and_frees_the_lock() {
    let place = Place::new();
    let (status, _, err) = place.output(&["x", "--", "/no/such/command"]);
    assert_eq!(status, 127);
    assert!(err.starts_with("dlock: ") && err.contains("/no/such/command"), "{err}");
    assert!(place.is_free("x"));

    let file = place.dir.path().join("file");
    std::fs::write(&file, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let (status, _, err) = place.output(&["x", "--", file.to_str().unwrap()]);
    assert_eq!(status, 126);
    assert!(err.contains("cannot execute"), "{err}");
    assert!(place.is_free("x"));
}

#[test]
fn mistakes_are_usage_errors() {
    let place = Place::new();
    let long = "n".repeat(1025);
    for args in [
        &["x"][..],
        &["x", "true"],
        &["--wait", "soon", "x", "--", "true"],
        &["--conflict-exit-code", "256", "x", "--", "true"],
        &["--url", "memory:", "x", "--", "true"],
        &["--url", "memory://shared", "x", "--", "true"],
        &["--url", "gopher://x", "x", "--", "true"],
        &["--url", "file:///tmp/x?no_such_option=1", "x", "--", "true"],
        &["--url", "", "x", "--", "true"],
        &["--url", "file:///tmp/%00", "x", "--", "true"],
        &["--url", &format!("unix:///{long}"), "x", "--", "true"],
        &["--url", "redis://a%00b", "x", "--", "true"],
        &["--url", "postgres://a%00b@h/d", "x", "--", "true"],
        &["--url", &format!("postgres:///d?host=/{long}"), "x", "--", "true"],
        &["--url", "redis://a?expiry=5s", "--url", "redis://b", "x", "--", "true"],
        &[&long, "--", "true"],
    ] {
        let (status, out, err) = place.output(args);
        assert_eq!((status, out.as_str()), (64, ""), "{args:?}: {err}");
        assert!(!err.is_empty(), "{args:?}");
    }
    assert_eq!(output(&mut dlock()).0, 64);
    assert_eq!(
        output(dlock().args(["run", "a", "--", "true"]).env("DISTRIBUTED_LOCK_URL", "x")).0,
        64
    );
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let place = Place::new();
    let locks = place.dir.path().join("locks");
    std::fs::write(&locks, "no directory").unwrap();
    let (status, _, err) = place.output(&["x", "--", "echo", "run"]);
    assert_eq!(status, 64, "{err}");
    assert!(err.starts_with("dlock: cannot use the lock service: "), "{err}");
    let reason = format!("invalid configuration: lock directory {}: ", locks.display());
    assert!(err.contains(&reason), "{err}");
    assert!(!err.contains("refused the request"), "{err}");
}

#[test]
fn help_and_version_succeed() {
    let (status, help, _) = output(dlock().args(["run", "--help"]));
    assert_eq!(status, 0);
    for taught in
        ["Examples:", "DISTRIBUTED_LOCK_URL", "DISTRIBUTED_LOCK_TOKEN", "69 ", "75 ", "76 "]
    {
        assert!(help.contains(taught), "{taught} in {help}");
    }
    for line in help.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert_eq!(output(dlock().arg("--version")).0, 0);
    assert_eq!(output(dlock().arg("--help")).0, 0);
}

#[test]
fn without_a_url_the_locks_are_in_the_users_own_directory() {
    // One fixed name: what stays is one lock's files, however often this runs.
    let script = "ls -ld /var/tmp/distributed-lock-$(id -u)";
    let (status, out, err) = output(dlock().args(["run", "dlock test", "--", "sh", "-c", script]));
    assert_eq!(status, 0, "{err}");
    assert!(out.starts_with("drwx------"), "{out}");
}
