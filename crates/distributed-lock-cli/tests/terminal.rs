//! Job control, on a pseudoterminal.
#![cfg(target_os = "linux")]

#[cfg(test)]
mod support;

use std::os::unix::process::ExitStatusExt;

use distributed_lock_testkit::servers::RedisServer;
use support::Place;
use support::session::Session;

#[test]
fn the_command_can_read_from_the_terminal() {
    let place = Place::new();
    let mut session = Session::start(&place.url(), r#"exec "$DLOCK" run x -- sh -c "$ASK""#);
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
    let mut session = Session::start(&place.url(), &script);
    session.screen.expect("ready");
    session.press("\x03");
    session.screen.expect("caught");
    assert_eq!(session.status(), 9);
}

#[test]
fn control_c_ends_the_waiting() {
    let place = Place::new();
    let _first = place.hold("x");
    let mut session = Session::start(&place.url(), r#"exec "$DLOCK" run x -- true"#);
    session.screen.expect("waiting for");
    session.press("\x03");
    assert_eq!(session.wait().signal(), Some(2));
}

/// A command that is stopped while it reads may take the first character of the next line, with and without
/// `dlock`.
fn the_shell_reads_and_then_the_command(session: &mut Session) {
    session.press("reads\n");
    session.screen.expect("shell ");
    session.screen.expect("eads");
    session.press("hello\n");
    session.screen.expect("got ");
    session.screen.expect("hello");
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
    let mut session = Session::start(&place.url(), script);
    session.screen.expect("ready");
    session.press("early\n");
    session.screen.expect("got early");
    session.screen.expect("ready");
    session.press("\x1a");
    session.screen.expect("stopped=");
    assert!(!place.is_free("x"));
    the_shell_reads_and_then_the_command(&mut session);
    session.screen.expect("ended=0");
    assert!(place.is_free("x"));
}

#[test]
fn a_background_job_stops_when_it_reads_and_goes_on_in_the_foreground() {
    let place = Place::new();
    let script = r#"set -m
        "$DLOCK" run x -- sh -c "$ASK" &
        eval "$STOPPED"; until [ "$(jobs -s)" ]; do sleep 0.02; done
        read shell; echo "shell $shell"
        fg
        echo "ended=$?""#;
    let mut session = Session::start(&place.url(), script);
    session.screen.expect("ready");
    the_shell_reads_and_then_the_command(&mut session);
    session.screen.expect("ended=0");
}

#[test]
fn control_z_without_a_shell_stops_nothing_for_good() {
    let place = Place::new();
    let mut session = Session::start(&place.url(), r#"exec "$DLOCK" run x -- sh -c "$ASK; $ASK""#);
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
    let mut session = Session::start(&place.url(), script);
    session.screen.expect("ready");
    session.press("hello\n");
    session.screen.expect("got hello");
    session.screen.expect("ended");
}

#[test]
fn control_c_ends_a_pipeline() {
    let place = Place::new();
    let script = r#"set -m; "$DLOCK" run x -- sh -c 'echo ready; exec sleep 1000' | cat"#;
    let mut session = Session::start(&place.url(), script);
    session.screen.expect("ready");
    session.press("\x03");
    session.process.wait().unwrap();
    assert!(place.is_free("x"));
}

/// Where the locks are: the command is a child of `dlock` itself, or of its second process.
fn urls(place: &Place) -> [String; 2] {
    [place.url(), RedisServer::shared().url()]
}

#[test]
fn row_66_control_c_ends_a_script() {
    let place = Place::new();
    for url in urls(&place) {
        for _ in 0..10 {
            let script = r#""$DLOCK" run script -- sh -c 'echo ready; exec sleep 1000'; echo NEXT"#;
            let mut session = Session::start(&url, script);
            session.screen.expect("ready");
            session.press("\x03");
            assert_eq!(session.wait().signal(), Some(2), "{url}");
            assert!(!session.screen.rest().contains("NEXT"), "{url}");
        }
    }
}

#[test]
fn row_66_control_backslash_ends_dlock_too() {
    let place = Place::new();
    for url in urls(&place) {
        let script = r#""$DLOCK" run script -- sh -c 'echo ready; exec sleep 1000'; echo $?"#;
        let mut session = Session::start(&url, &format!("ulimit -c 0; {script}"));
        session.screen.expect("ready");
        session.press("\x1c");
        // The shell itself takes no notice of it.
        session.screen.expect("Quit");
        session.screen.expect("131");
        assert_eq!(session.status(), 0);
    }
}

/// Each program of the group gets a key's signal once.
#[test]
fn row_66_control_c_reaches_the_command_once() {
    let place = Place::new();
    for url in urls(&place) {
        let inner = "trap \"n=x\\$n\" INT; echo ready; read line; read line; echo got \\$n";
        let script = format!(r#""$DLOCK" run once -- bash -c "{inner}"; echo NEXT"#);
        let mut session = Session::start(&url, &script);
        session.screen.expect("ready");
        session.press("\x03");
        session.screen.expect("^C");
        session.press("a\nb\n");
        session.screen.expect("got x\r\n");
        // The command has dealt with it, so the script goes on.
        session.screen.expect("NEXT");
    }
}

#[test]
fn row_66_control_z_in_a_script_stops_all_of_it_and_fg_continues_it() {
    let place = Place::new();
    for url in urls(&place) {
        let script = r#"set -m
            bash -c '"$DLOCK" run script -- sh -c "$ASK; $ASK"; echo after'
            echo "stopped=$?"
            read shell; echo "shell $shell"
            fg
            echo "ended=$?""#;
        let mut session = Session::start(&url, script);
        session.screen.expect("ready");
        session.press("early\n");
        session.screen.expect("got early");
        session.screen.expect("ready");
        session.press("\x1a");
        session.screen.expect("stopped=148");
        the_shell_reads_and_then_the_command(&mut session);
        session.screen.expect("after");
        session.screen.expect("ended=0");
    }
}

/// Without a shell that could continue it, nothing stops; see `is_orphaned`.
#[test]
fn row_66_control_z_without_a_shell_stops_nothing_on_a_server_either() {
    let url = RedisServer::shared().url();
    let mut session = Session::start(&url, r#"exec "$DLOCK" run no-shell -- sh -c "$ASK; $ASK""#);
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

/// The terminal belongs to the group all the time: a command may read, write and set it at once.
#[test]
fn row_66_a_command_has_the_terminal_from_its_start() {
    let place = Place::new();
    for url in urls(&place) {
        let script = r#"set -m; stty tostop
            "$DLOCK" run -q tty -- sh -c 'stty -echo; stty echo; ps -o tpgid=,pgid= -p $$'
            echo "ended=$?""#;
        let session = Session::start(&url, script);
        let shown = session.screen.expect("ended=0");
        let groups: Vec<_> = shown.split_whitespace().collect();
        assert_eq!(groups[0], groups[1], "{shown}");
    }
}
