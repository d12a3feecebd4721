//! Row 65: what `dlock` inherits does not disturb it, and reaches the command where it should.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(test)]
mod support;

use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use distributed_lock_testkit::history::now;
use distributed_lock_testkit::servers::RedisServer;
use nix::sys::signal::Signal;
use support::service::Service;
use support::tagged::Tag;
use support::{HOLD, Place, Running, output};

/// A shell with `$DLOCK`, and locks in the directory.
fn shell(place: &Place, script: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["--norc", "-c", script]).env("DLOCK", support::program());
    command.env("DISTRIBUTED_LOCK_URL", place.url());
    command
}

fn redis() -> Service {
    Service(RedisServer::shared().url())
}

#[test]
fn row_65_blocked_signals_make_no_difference() {
    let place = Place::new();
    for signals in ["CHLD", "TERM,INT,HUP,USR1", "CHLD,CONT,PIPE,ALRM"] {
        let script = format!(
            "exec env --block-signal={signals} timeout 20 $DLOCK run x -- grep SigBlk /proc/self/status"
        );
        let (status, out, err) = output(&mut shell(&place, &script));
        assert_eq!((status, out.as_str()), (0, "SigBlk:\t0000000000000000\n"), "{signals}: {err}");
    }
    let script = "exec env --block-signal=TERM $DLOCK run x -- sh -c 'echo ready; exec cat'";
    let mut running = Running::start(&mut shell(&place, script));
    running.out.expect("ready");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.signal_of_end(), Some(15));
}

#[test]
fn row_65_nor_do_ignored_ones() {
    let place = Place::new();
    let script = "trap '' CHLD PIPE ALRM; exec timeout 20 $DLOCK run x -- sh -c 'exit 5'";
    assert_eq!(output(&mut shell(&place, script)).0, 5);
    // What nohup and background jobs ignore, the command goes on to ignore.
    let script = "trap '' HUP INT; exec $DLOCK run x -- sh -c 'kill -HUP $$; kill -INT $$; exit 6'";
    assert_eq!(output(&mut shell(&place, script)).0, 6);
}

#[test]
fn row_65_too_few_descriptors_are_an_error_that_says_so() {
    let place = Place::new();
    for limit in 4..40 {
        let script = format!("exec prlimit --nofile={limit} $DLOCK run x -- echo ran");
        let (status, out, err) = output(&mut shell(&place, &script));
        match status {
            0 => assert_eq!(out, "ran\n", "{limit}"),
            // The loader of programs itself needs one more.
            127 => assert!(limit < 5, "{limit}: {err}"),
            other => {
                assert_eq!((other, out.as_str()), (69, ""), "{limit}: {err}");
                assert!(err.contains("open files"), "{limit}: {err}");
            }
        }
    }
    let script = "exec prlimit --nofile=64 $DLOCK run x -- echo ran";
    assert_eq!(output(&mut shell(&place, script)).1, "ran\n");
}

#[test]
fn row_65_it_works_without_proc() {
    let place = Place::new();
    let without = "umount -l /proc && exec $DLOCK run x -- sh -c 'echo ran; exit 4'";
    let mut command = Command::new("unshare");
    command.args(["--mount", "bash", "--norc", "-c", without]).env("DLOCK", support::program());
    for url in [place.url(), redis().0] {
        let (status, out, err) = output(command.env("DISTRIBUTED_LOCK_URL", &url));
        assert_eq!((status, out.as_str()), (4, "ran\n"), "{url}: {err}");
    }
}

#[test]
fn row_64_and_65_without_proc_everything_still_ends_with_dlock() {
    let tag = Tag::new();
    let script = format!(
        "setsid sh -c 'sleep {tag} & exit'; sleep {tag} | sleep {tag} & echo started; wait",
        tag = tag.0
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "umount -l /proc && exec \"$0\" \"$@\""]);
    command.arg(support::program()).args(["run", "no proc", "--", "sh", "-c", &script]);
    let mut running = Running::start(command.env("DISTRIBUTED_LOCK_URL", redis().0));
    running.out.expect("started");
    tag.wait_for_sleeping(3);
    running.signal(Signal::SIGKILL);
    running.wait();
    // A list of all processes is made by asking for every number.
    tag.expect_ended_within(Duration::from_secs(20));
}

#[test]
fn row_65_the_first_process_of_a_container_leaves_no_zombies() {
    let place = Place::new();
    // Nine that outlive their parents, and end.
    let script = "i=0; while [ $i -lt 9 ]; do sh -c 'sleep 0.1 & exit'; i=$((i+1)); done
        n=0; until [ $n -eq 300 ]; do
            sleep 0.1; n=$((n+1))
            left=$(cat /proc/[0-9]*/stat 2>/dev/null | grep -c '(sleep) Z')
            running=$(cat /proc/[0-9]*/stat 2>/dev/null | grep -c '(sleep) S')
            [ $running -gt 1 ] || [ $left -gt 0 ] || break
        done; echo $left zombies; exit 7";
    for url in [place.url(), redis().0] {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc"]).arg(support::program());
        command.args(["run", "first", "--", "sh", "-c", script]).env("DISTRIBUTED_LOCK_URL", &url);
        let (status, out, err) = output(&mut command);
        assert_eq!((status, out.as_str()), (7, "0 zombies\n"), "{url}: {err}");
    }
}

#[test]
fn row_65_closed_streams_are_no_trouble() {
    let place = Place::new();
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        for url in [place.url(), redis().0] {
            let script = format!("$DLOCK run closed -- sh -c 'exit 3' {closed}");
            let mut command = shell(&place, &script);
            command.env("DISTRIBUTED_LOCK_URL", &url);
            assert_eq!(output(&mut command).0, 3, "{closed} {url}");
        }
    }
}

/// A standard error that takes nothing any more.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (read, write) = std::io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(write.as_fd()).unwrap();
    rustix::fs::fcntl_setfl(write.as_fd(), flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    while (&write).write(&[b'x'; 4096]).is_ok() {}
    while (&write).write(b"x").is_ok() {}
    rustix::fs::fcntl_setfl(write.as_fd(), flags).unwrap();
    (read, write)
}

#[test]
fn row_65_an_unread_standard_error_delays_no_end() {
    let (place, tag) = (Place::new(), Tag::new());
    let (_unread, write) = full_pipe();
    let line = format!("exec sleep {}", tag.0);
    let mut command = place.run(&["x", "--", "sh", "-c", &line]);
    let mut process = command.stdin(Stdio::null()).stderr(write).spawn().unwrap();
    tag.wait_for_sleeping(1);
    let removed = now();
    place.remove_files();
    assert_eq!(process.wait().unwrap().code(), Some(76));
    assert!(now() - removed < Duration::from_secs(5), "{:?}", now() - removed);
    assert_eq!(tag.running(), []);
}

#[test]
fn row_65_an_unread_standard_error_delays_no_signal() {
    let place = Place::new();
    let _held = place.hold("x");
    let (_unread, write) = full_pipe();
    let mut process = place.run(&["x", "--", "true"]).stderr(write).spawn().unwrap();
    // Long enough for it to have something to say.
    assert_eq!(place.output(&["-q", "--wait", "600ms", "x", "--", "true"]).0, 75);
    let pid = nix::unistd::Pid::from_raw(process.id().cast_signed());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    let sent = now();
    let status = process.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15));
    assert!(now() - sent < Duration::from_secs(5), "{:?}", now() - sent);
}

/// With `--close` a daemon does not keep the lock file open; without it does, which keeps no lock once
/// the command has ended.
#[test]
fn a_daemon_does_not_keep_the_lock() {
    let place = Place::new();
    let files = "for f in /proc/self/fd/*; do readlink $f; done | grep -c /locks/";
    for (option, open) in [("--write", "1\n"), ("--close", "0\n")] {
        let script = format!("echo $({files}); exec 3<&0; cat <&3 >/dev/null 2>&1 & exit 0");
        let mut running = Running::start(&mut place.run(&[option, "x", "--", "sh", "-c", &script]));
        assert_eq!(running.status(), 0);
        assert_eq!(running.out.expect("\n"), open, "{option}");
        assert!(place.is_free("x"), "{option}");
        running.end_input();
    }
}

#[test]
fn with_close_the_command_ends_with_a_dlock_that_is_killed() {
    let place = Place::new();
    let script = format!("setsid sh -c '{HOLD}'");
    let mut running = Running::start(&mut place.run(&["-o", "x", "--", "sh", "-c", &script]));
    running.out.expect("holding");
    let input = running.take_input();
    running.signal(Signal::SIGKILL);
    running.wait();
    // Its output ends with the last process that has it.
    running.out.rest();
    assert!(place.is_free("x"));
    drop(input);
}
