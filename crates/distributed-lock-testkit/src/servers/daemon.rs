//! A server program: what all kinds of servers have in common.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use super::home::Home;
use super::port::Port;
use super::{account, processes, soon};

/// How long a server may take to answer, or to stop: only a broken one takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often another port is tried if somebody was faster.
const PORTS_TRIED: u32 = 5;

/// A program with its arguments, for a directory and a port.
pub(super) type Launch = Box<dyn Fn(&Path, u16) -> Command + Send + Sync>;

/// What differs between kinds of servers.
pub(super) struct Kind {
    /// What it is called in messages.
    pub(super) name: &'static str,
    /// How it is told to stop in good order.
    pub(super) stop: Signal,
    /// How it is started.
    pub(super) command: Launch,
    /// Whether the server on a port answers.
    pub(super) answers: fn(u16) -> bool,
}

/// A server with its directory and port, running or not.
pub(super) struct Daemon {
    kind: Kind,
    port: Port,
    child: Mutex<Option<Child>>,
    home: Home,
}

impl Daemon {
    /// Starts it, on some free port, and waits until it answers.
    pub(super) fn start(home: Home, kind: Kind) -> Self {
        let mut daemon = Self { kind, port: Port::claim(), child: Mutex::default(), home };
        for _ in 0..PORTS_TRIED {
            if daemon.launch().is_ok() {
                return daemon;
            }
            if !daemon.port.is_taken() {
                break;
            }
            daemon.port = Port::claim();
        }
        panic!("{} does not start: {}", daemon.kind.name, daemon.log())
    }

    pub(super) fn port(&self) -> u16 {
        self.port.number()
    }

    pub(super) fn directory(&self) -> &Path {
        self.home.path()
    }

    /// The server's first process.
    pub(super) fn pid(&self) -> u32 {
        self.running().as_ref().map(Child::id).expect("the server is not running")
    }

    pub(super) fn processes(&self) -> Vec<Pid> {
        self.home.processes()
    }

    /// What it has written, for people.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Ends all its processes at once; nothing happens if there are none.
    pub(super) fn kill(&self) {
        let Some(mut child) = self.running().take() else { return };
        // This one first: then nobody starts others. That it has died before is as well.
        let _ = child.kill();
        let _ = child.wait();
        self.home.kill_all();
    }

    /// Stops it in good order; nothing happens if it does not run.
    pub(super) fn stop(&self) {
        self.resume();
        let Some(mut child) = self.running().take() else { return };
        processes::signal(Pid::from_child(&child), self.kind.stop);
        let stopped = soon::within(PATIENCE, || !matches!(child.try_wait(), Ok(None)));
        assert!(stopped, "{} does not stop: {}", self.kind.name, self.log());
        // Normally there is nobody left.
        self.home.kill_all();
    }

    /// Starts it again, with the directory and port that it had.
    pub(super) fn restart(&self) {
        self.stop();
        if self.launch().is_err() {
            panic!("{} does not start again: {}", self.kind.name, self.log());
        }
    }

    /// Stops all its processes where they are, and waits until they stand.
    pub(super) fn pause(&self) {
        let first = self.running().as_ref().map(Pid::from_child);
        let first = first.expect("the server is not running");
        // It starts others, so it stands before they are listed.
        self.stand(&[first]);
        self.stand(&self.home.processes());
    }

    /// Lets paused processes go on.
    pub(super) fn resume(&self) {
        for pid in self.home.processes() {
            processes::signal(pid, Signal::CONT);
        }
    }

    fn stand(&self, pids: &[Pid]) {
        pids.iter().for_each(|pid| processes::signal(*pid, Signal::STOP));
        let stand = || pids.iter().all(|pid| processes::is_stopped(*pid));
        assert!(soon::within(PATIENCE, stand), "{} does not stand still", self.kind.name);
    }

    /// Runs the program until it answers; an error if it ended instead.
    fn launch(&self) -> Result<(), ()> {
        let log = File::options().create(true).append(true).open(self.log_file()).expect("a log");
        let mut command = (self.kind.command)(self.home.path(), self.port());
        account::without_root(&mut command)
            // By this its processes are known.
            .current_dir(self.home.path())
            // What a terminal sends to the tests is not for it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("{command:?}: {error}; `cargo xtask test` installs it"),
        };
        let mut ended = false;
        let answers = soon::within(PATIENCE, || {
            ended = !matches!(child.try_wait(), Ok(None));
            ended || (self.kind.answers)(self.port())
        });
        *self.running() = Some(child);
        if ended {
            self.kill();
            return Err(());
        }
        assert!(answers, "{} does not answer: {}", self.kind.name, self.log());
        Ok(())
    }

    fn log_file(&self) -> PathBuf {
        self.home.path().join("log")
    }

    fn running(&self) -> MutexGuard<'_, Option<Child>> {
        // A test that panicked elsewhere leaves a child as good as before.
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pid = self.running().as_ref().map(Child::id);
        f.debug_struct(self.kind.name).field("port", &self.port()).field("pid", &pid).finish()
    }
}
