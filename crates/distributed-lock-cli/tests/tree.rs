//! Row 64: everything that the command has started ends with the lock.
#![cfg(target_os = "linux")]

#[cfg(test)]
mod support;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use distributed_lock_testkit::servers::{PostgresServer, RedisServer};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use support::service::Service;
use support::tagged::Tag;
use support::{Place, Running};

const LEASE: Duration = Duration::from_secs(1);
/// How soon after the end of `dlock` nothing of its command runs.
const ENDED_WITHIN: Duration = Duration::from_secs(1);

fn redis() -> Service {
    let url = RedisServer::shared().url();
    Service(format!("{url}?expiry={}ms", LEASE.as_millis()))
}

fn postgres() -> Service {
    Service(PostgresServer::shared().url())
}

/// Five processes: a pipeline that ignores TERM, one in a session of its own, one whose parent has ended,
/// and one that is both and stopped.
fn everything(tag: &Tag) -> String {
    let sleep = format!("sleep {}", tag.0);
    format!(
        "(trap '' TERM; exec {sleep}) | {sleep} & setsid {sleep} & sh -c '{sleep} & exit'; \
         setsid sh -c '{sleep} & until grep -q sleep /proc/$!/comm; do :; done; kill -STOP $!'; \
         echo started; wait"
    )
}

fn start(service: &Service, name: &str, tag: &Tag) -> Running {
    let script = everything(tag);
    let mut command = service.run(&[name, "--", "sh", "-c", &script]);
    let running = Running::start(command.process_group(0));
    running.out.expect("started");
    tag.wait_for_sleeping(5);
    running
}

#[test]
fn row_64_nothing_runs_on_when_dlock_is_killed_on_redis() {
    let tag = Tag::new();
    let mut running = start(&redis(), "killed tree", &tag);
    running.signal(Signal::SIGKILL);
    running.wait();
    tag.expect_ended_within(ENDED_WITHIN);
}

#[test]
fn row_64_nothing_runs_on_when_dlock_is_killed_on_postgres() {
    let tag = Tag::new();
    let mut running = start(&postgres(), "killed tree", &tag);
    running.signal(Signal::SIGKILL);
    running.wait();
    tag.expect_ended_within(ENDED_WITHIN);
}

#[test]
fn row_64_nothing_runs_on_when_the_group_of_dlock_is_killed() {
    let tag = Tag::new();
    let mut running = start(&redis(), "killed group", &tag);
    killpg(running.pid(), Signal::SIGKILL).unwrap();
    running.wait();
    tag.expect_ended_within(ENDED_WITHIN);
}

#[test]
fn row_64_nothing_runs_on_when_the_second_process_is_killed() {
    let tag = Tag::new();
    let mut running = start(&redis(), "killed reaper", &tag);
    let all = tag.running();
    let reaper = all.iter().find(|(_, line)| line.starts_with("lock-reaper")).unwrap().0;
    kill(Pid::from_raw(reaper), Signal::SIGKILL).unwrap();
    assert_eq!(running.status(), 69);
    assert_eq!(tag.running(), [], "dlock ends last");
    assert!(running.err.rest().contains("second process"));
}

#[test]
fn row_64_nothing_runs_on_when_a_lease_is_lost() {
    let tag = Tag::new();
    let mut running = start(&redis(), "lost tree", &tag);
    assert_eq!(RedisServer::shared().cli(&["DEL", "distributed-lock:lost tree"]), "1");
    assert_eq!(running.status(), 76);
    assert_eq!(tag.running(), [], "dlock ends last");
}

#[test]
fn row_64_nothing_runs_on_when_a_file_is_removed() {
    let (place, tag) = (Place::new(), Tag::new());
    let script = everything(&tag);
    let mut running = Running::start(&mut place.run(&["x", "--", "sh", "-c", &script]));
    running.out.expect("started");
    tag.wait_for_sleeping(5);
    place.remove_files();
    assert_eq!(running.status(), 76);
    assert_eq!(tag.running(), [], "dlock ends last");
}

/// The command ends before its lease has, though `dlock` cannot end it.
#[test]
fn row_64_nothing_runs_on_when_dlock_is_stopped_past_its_lease() {
    let tag = Tag::new();
    let mut running = start(&redis(), "stopped tree", &tag);
    running.signal(Signal::SIGSTOP);
    let wait = format!("{}ms", 3 * LEASE.as_millis());
    let count = format!("pgrep -c -f '^sleep {}'", tag.0);
    // A waiter that gets the lock sees that nothing is left.
    let (_, left, err) = redis().output(&["-q", "--wait", &wait, "stopped tree", "-c", &count]);
    assert_eq!(left.trim(), "0", "{err}");
    running.signal(Signal::SIGCONT);
    assert_eq!(running.status(), 76);
}

/// Each process has ended when its child is found.
#[test]
fn row_64_a_chain_of_short_processes_is_ended() {
    let (place, tag) = (Place::new(), Tag::new());
    let script = place.dir.path().join("chain");
    std::fs::write(&script, "#!/bin/sh\nsleep 0.02\nsetsid \"$0\" \"$1\" &\n").unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let line = format!("{} {}; echo started; sleep 1000", script.display(), tag.0);
    let mut running = Running::start(&mut redis().run(&["chain", "--", "sh", "-c", &line]));
    running.out.expect("started");
    running.signal(Signal::SIGKILL);
    running.wait();
    // Its output ends with the last process that has it.
    running.out.rest();
    tag.expect_ended_within(ENDED_WITHIN);
}

/// `dlock` of an ordinary user, and a command that becomes root: it is named, and not waited for.
#[test]
fn row_64_what_may_not_be_ended_is_named() {
    if !rustix::process::geteuid().is_root() {
        return println!("only root can make a set-user-id program");
    }
    let (place, tag) = (Place::new(), Tag::new());
    let readable = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    readable(place.dir.path(), 0o777);
    let become_root = place.dir.path().join("become-root");
    std::fs::copy("/usr/bin/setpriv", &become_root).unwrap();
    readable(&become_root, 0o4755);
    let dlock = place.dir.path().join("dlock");
    std::fs::copy(support::program(), &dlock).unwrap();
    let script = format!(
        "{} --reuid 0 sleep {tag} & sleep {tag} & echo started; wait",
        become_root.display(),
        tag = tag.0
    );
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--clear-groups"]).arg(&dlock);
    command.args(["run", "other user", "--", "sh", "-c", &script]);
    command.env("DISTRIBUTED_LOCK_URL", redis().0);
    let mut running = Running::start(&mut command);
    running.out.expect("started");
    tag.wait_for_sleeping(2);
    assert_eq!(RedisServer::shared().cli(&["DEL", "distributed-lock:other user"]), "1");
    assert_eq!(running.status(), 76);
    let left = tag.running();
    let [(pid, line)] = &left[..] else { panic!("{left:?}") };
    assert!(line.starts_with("sleep"), "{line}");
    kill(Pid::from_raw(*pid), Signal::SIGKILL).unwrap();
    let err = running.err.rest();
    assert!(err.contains(&format!("may not be ended: pid {pid} (sleep)")), "{err}");
}

/// What the command leaves behind when it ends by itself goes on, as under `flock(1)`.
#[test]
fn what_is_left_behind_goes_on_without_the_lock() {
    let tag = Tag::new();
    let script = format!("sleep {} >/dev/null 2>&1 & exit 3", tag.0);
    let (status, _, err) = redis().output(&["-q", "left behind", "--", "sh", "-c", &script]);
    assert_eq!((status, err.as_str()), (3, ""));
    let left = tag.running();
    assert_eq!(left.len(), 1, "{left:?}");
    kill(Pid::from_raw(left[0].0), Signal::SIGKILL).unwrap();
}
