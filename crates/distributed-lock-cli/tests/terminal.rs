//! Job control, on a pseudoterminal.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[cfg(test)]
mod support;

use std::fs::File;
use std::io::Write;
use std::process::{Child, Command};

use nix::pty::openpty;
use rustix::io::{FdFlags, fcntl_setfd};
use support::{Output, Place};

/// Reads a line from the terminal and says it.
const ASK: &str = "echo ready; read line; echo got $line";

/// A process that leads a session on a terminal of its own, and the other side of that.
struct Session {
    process: Child,
    screen: Output,
    keyboard: File,
}

impl Session {
    fn start(place: &Place, script: &str) -> Self {
        let pty = openpty(None, None).unwrap();
        for side in [&pty.master, &pty.slave] {
            fcntl_setfd(side, FdFlags::CLOEXEC).unwrap();
        }
        let mut command = Command::new("setsid");
        command.args(["--ctty", "sh", "-c", script]);
        command.env("DISTRIBUTED_LOCK_URL", place.url());
        command.env("DLOCK", env!("CARGO_BIN_EXE_dlock")).env("ASK", ASK);
        command.stdin(pty.slave.try_clone().unwrap());
        command.stdout(pty.slave.try_clone().unwrap()).stderr(pty.slave);
        let process = command.spawn().unwrap();
        let keyboard = File::from(pty.master);
        Self { process, screen: Output::of(keyboard.try_clone().unwrap()), keyboard }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn status(&mut self) -> i32 {
        self.process.wait().unwrap().code().expect("an exit status")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_command_can_read_from_the_terminal() {
    let place = Place::new();
    let mut session = Session::start(&place, r#"exec "$DLOCK" run x -- sh -c "$ASK""#);
    session.screen.expect("ready");
    session.press("hello\n");
    session.screen.expect("got hello");
    assert_eq!(session.status(), 0);
}

#[test]
fn control_c_reaches_the_command() {
    let place = Place::new();
    // A trap waits for the command that runs: nothing here may block.
    let busy = "i=0; while [ $i -lt 10000000 ]; do i=$((i + 1)); done";
    let inner = format!("trap \"echo caught; exit 9\" INT; echo ready; {busy}");
    let script = format!(r#"exec "$DLOCK" run x -- sh -c '{inner}'"#);
    let mut session = Session::start(&place, &script);
    session.screen.expect("ready");
    session.press("\x03");
    session.screen.expect("caught");
    assert_eq!(session.status(), 9);
}

#[test]
fn control_c_ends_the_waiting() {
    let place = Place::new();
    let _first = place.hold("x");
    let mut session = Session::start(&place, r#"exec "$DLOCK" run x -- true"#);
    session.screen.expect("waiting for");
    session.press("\x03");
    assert_eq!(session.status(), 130);
}

#[test]
fn control_z_gives_the_terminal_to_the_shell_and_fg_gives_it_back() {
    let place = Place::new();
    let script = r#"set -m
        "$DLOCK" run x -- sh -c "$ASK; $ASK"
        echo "stopped=$?"
        read shell; echo "shell $shell"
        fg
        echo "ended=$?""#;
    let mut session = Session::start(&place, script);
    // Once the command has read, it has the terminal: see the module about what comes before.
    session.screen.expect("ready");
    session.press("early\n");
    session.screen.expect("got early");
    session.screen.expect("ready");
    session.press("\x1a");
    session.screen.expect("stopped=");
    assert!(!place.is_free("x"));
    session.press("reads\n");
    session.screen.expect("shell reads");
    session.press("hello\n");
    session.screen.expect("got hello");
    session.screen.expect("ended=0");
    assert!(place.is_free("x"));
}

#[test]
fn a_background_job_stops_when_it_reads_and_goes_on_in_the_foreground() {
    let place = Place::new();
    let script = r#"set -m
        "$DLOCK" run x -- sh -c "$ASK" &
        read shell; echo "shell $shell"
        fg
        echo "ended=$?""#;
    let mut session = Session::start(&place, script);
    session.screen.expect("ready");
    session.press("reads\n");
    session.screen.expect("shell reads");
    session.press("hello\n");
    session.screen.expect("got hello");
    session.screen.expect("ended=0");
}

#[test]
fn control_z_without_a_shell_stops_nothing_for_good() {
    let place = Place::new();
    let mut session = Session::start(&place, r#"exec "$DLOCK" run x -- sh -c "$ASK; $ASK""#);
    session.screen.expect("ready");
    session.press("early\n");
    session.screen.expect("got early");
    session.screen.expect("ready");
    session.press("\x1a");
    session.screen.expect("^Z");
    session.press("hello\n");
    session.screen.expect("got hello");
    assert_eq!(session.status(), 0);
}

#[test]
fn in_a_pipeline_the_command_gets_the_terminal_when_it_asks() {
    let place = Place::new();
    let script = r#"set -m; "$DLOCK" run x -- sh -c "$ASK" | cat; echo ended"#;
    let mut session = Session::start(&place, script);
    session.screen.expect("ready");
    session.press("hello\n");
    session.screen.expect("got hello");
    session.screen.expect("ended");
}

#[test]
fn control_c_ends_a_pipeline() {
    let place = Place::new();
    let script = r#"set -m; "$DLOCK" run x -- sh -c 'echo ready; exec sleep 1000' | cat"#;
    let mut session = Session::start(&place, script);
    session.screen.expect("ready");
    session.press("\x03");
    session.process.wait().unwrap();
    assert!(place.is_free("x"));
}
