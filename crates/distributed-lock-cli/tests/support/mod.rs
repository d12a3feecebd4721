//! Runs the real program on a directory of its own.
//!
//! Everything waits for events, and gives up with what it has seen when none comes.

#![allow(dead_code, reason = "each test file uses its share")]

#[cfg(target_os = "linux")]
pub(crate) mod service;
#[cfg(target_os = "linux")]
pub(crate) mod session;
#[cfg(target_os = "linux")]
pub(crate) mod tagged;

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// A directory of locks.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}/locks", self.dir.path().display())
    }

    /// `dlock run` with these arguments.
    pub(crate) fn run(&self, args: &[&str]) -> Command {
        let mut command = dlock();
        command.arg("run").args(args).env("DISTRIBUTED_LOCK_URL", self.url());
        command
    }

    /// Runs it to the end: status, standard output, standard error.
    pub(crate) fn output(&self, args: &[&str]) -> (i32, String, String) {
        output(&mut self.run(args))
    }

    /// Starts a process that holds the lock until its input ends, and waits until it does.
    pub(crate) fn hold(&self, name: &str) -> Running {
        let running = Running::start(&mut self.run(&[name, "--", "sh", "-c", HOLD]));
        running.out.expect("holding");
        running
    }

    /// Removes every lock file.
    pub(crate) fn remove_files(&self) {
        for entry in std::fs::read_dir(self.dir.path().join("locks")).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }

    pub(crate) fn is_free(&self, name: &str) -> bool {
        match self.output(&["--no-wait", name, "--", "true"]).0 {
            0 => true,
            75 => false,
            other => panic!("exit status {other}"),
        }
    }
}

/// Says that it holds, and ends with its input, or by any signal from then on.
///
/// Without `exec`, a signal is lost on `dash` when it comes while that starts `cat`.
pub(crate) const HOLD: &str = "echo holding; exec cat >/dev/null";

/// The program: the one that was built, or `DLOCK_UNDER_TEST`, to see what another build does.
pub(crate) fn program() -> String {
    std::env::var("DLOCK_UNDER_TEST").unwrap_or_else(|_| env!("CARGO_BIN_EXE_dlock").to_owned())
}

pub(crate) fn dlock() -> Command {
    let mut command = Command::new(program());
    command.env_remove("DISTRIBUTED_LOCK_URL");
    command
}

pub(crate) fn output(command: &mut Command) -> (i32, String, String) {
    let mut running = Running::start(command);
    running.end_input();
    let status = running.status();
    (status, running.out.rest(), running.err.rest())
}

/// A started process with pipes; killed if the test ends first.
pub(crate) struct Running {
    process: Child,
    pub(crate) out: Output,
    pub(crate) err: Output,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let out = Output::of(process.stdout.take().unwrap());
        let err = Output::of(process.stderr.take().unwrap());
        Self { process, out, err }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id().cast_signed())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    pub(crate) fn write(&mut self, text: &str) {
        self.process.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn end_input(&mut self) {
        drop(self.process.stdin.take());
    }

    /// Its standard input, which stays open when this is forgotten.
    pub(crate) fn take_input(&mut self) -> std::process::ChildStdin {
        self.process.stdin.take().unwrap()
    }

    /// Waits for its end, without ending its input as `Child::wait` does.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let input = self.process.stdin.take();
        let status = self.process.wait().unwrap();
        self.process.stdin = input;
        status
    }

    /// The signal by which it ends.
    pub(crate) fn signal_of_end(&mut self) -> Option<i32> {
        std::os::unix::process::ExitStatusExt::signal(&self.wait())
    }

    /// Its exit status; it must not end by a signal.
    pub(crate) fn status(&mut self) -> i32 {
        self.wait().code().expect("an exit status")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What comes out of a pipe or terminal, read by a thread.
pub(crate) struct Output {
    pieces: Receiver<Vec<u8>>,
    seen: std::cell::RefCell<String>,
}

impl Output {
    pub(crate) fn of(mut source: impl Read + Send + 'static) -> Self {
        let (send, pieces) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A terminal whose other side is closed is an error.
            while let Ok(length @ 1..) = source.read(&mut buffer) {
                if send.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { pieces, seen: Default::default() }
    }

    /// Waits until this text comes, and forgets everything up to it; returns what it forgot.
    #[track_caller]
    pub(crate) fn expect(&self, text: &str) -> String {
        loop {
            let mut seen = self.seen.borrow_mut();
            if let Some(at) = seen.find(text) {
                let rest = seen.split_off(at + text.len());
                return std::mem::replace(&mut *seen, rest);
            }
            match self.pieces.recv_timeout(PATIENCE) {
                Ok(piece) => seen.push_str(&String::from_utf8_lossy(&piece)),
                Err(error) => panic!("{error} while waiting for {text:?}; seen: {seen:?}"),
            }
        }
    }

    /// Everything to the end.
    #[track_caller]
    pub(crate) fn rest(&self) -> String {
        let mut seen = self.seen.borrow_mut();
        loop {
            match self.pieces.recv_timeout(PATIENCE) {
                Ok(piece) => seen.push_str(&String::from_utf8_lossy(&piece)),
                Err(RecvTimeoutError::Disconnected) => return std::mem::take(&mut *seen),
                Err(RecvTimeoutError::Timeout) => panic!("no end; seen: {seen:?}"),
            }
        }
    }
}
