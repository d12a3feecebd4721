//! The command, running in a process group of its own.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};

use distributed_lock::FencingToken;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Failure, NOT_EXECUTABLE, NOT_FOUND, UNAVAILABLE};

const NAME_VARIABLE: &str = "DISTRIBUTED_LOCK_NAME";
const TOKEN_VARIABLE: &str = "DISTRIBUTED_LOCK_TOKEN";

/// A started command. Its group can be signalled until [`reap`](Self::reap), also when the command
/// itself has ended: the number cannot pass to others before.
#[derive(Debug)]
pub(crate) struct Child {
    process: std::process::Child,
    changes: tokio::signal::unix::Signal,
}

/// What happened to the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Stopped(Signal),
    Ended,
}

impl Child {
    /// Starts the command.
    ///
    /// `keep_alive` is open in the child, and in what it starts, and nowhere else when this returns.
    /// Without one the child ends with this process, where the kernel does that.
    pub(crate) fn spawn(
        command: &[OsString],
        name: &str,
        token: Option<FencingToken>,
        keep_alive: Option<OwnedFd>,
    ) -> Result<Self, Failure> {
        let Some((program, _)) = command.split_first() else {
            return Err(Failure::new(NOT_FOUND, "there is no command to run"));
        };
        let unable = |what: &str, error: &dyn std::error::Error| {
            Failure::new(UNAVAILABLE, format!("cannot {what}")).because(error)
        };
        // Before the start: the end of a child that ends at once must be seen.
        let changes = signal(SignalKind::child()).map_err(|e| unable("watch the command", &e))?;
        let mut prepared = prepare(command, keep_alive.is_some());
        prepared.env(NAME_VARIABLE, name).process_group(0);
        match token {
            Some(token) => prepared.env(TOKEN_VARIABLE, token.to_string()),
            // One that was inherited is another lock's.
            None => prepared.env_remove(TOKEN_VARIABLE),
        };
        if let Some(descriptor) = &keep_alive {
            // Nothing else is started between here and the end of this function.
            fcntl_setfd(descriptor, FdFlags::empty())
                .map_err(|error| unable("pass the lock on to the command", &error))?;
        }
        let process = prepared.spawn().map_err(|error| not_started(program, &error))?;
        Ok(Self { process, changes })
    }

    /// The number of the command's process and of its group.
    pub(crate) fn group(&self) -> Pid {
        // The kernel's numbers fit; `id` has merely the other sign.
        Pid::from_raw(self.process.id().cast_signed())
    }

    /// Sends a signal to every process in the group.
    pub(crate) fn signal_group(&self, signal: Signal) {
        // Fails only if everybody there has changed user: there is nothing else to try.
        let _ = killpg(self.group(), signal);
    }

    /// Waits until the command is stopped, which is told once, or has ended, which is told always.
    ///
    /// Nothing is missed if the future is dropped.
    pub(crate) async fn change(&mut self) -> Change {
        loop {
            // An error would mean that there is no such child: `reap` will say so.
            match self.query(WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => return Change::Ended,
            }
            let stopped = self.query(WaitIdOptions::STOPPED).ok().flatten();
            let by = stopped.and_then(|status| status.stopping_signal());
            if let Some(by) = by.and_then(|number| Signal::try_from(number).ok()) {
                return Change::Stopped(by);
            }
            self.changes.recv().await;
        }
    }

    /// Waits for the end of the command.
    pub(crate) async fn ended(&mut self) {
        while self.change().await != Change::Ended {}
    }

    /// Takes the status of a command that has ended.
    pub(crate) fn reap(mut self) -> io::Result<ExitStatus> {
        self.process.wait()
    }

    fn query(&self, what: WaitIdOptions) -> rustix::io::Result<Option<WaitIdStatus>> {
        let pid = rustix::process::Pid::from_child(&self.process);
        waitid(WaitId::Pid(pid), what | WaitIdOptions::NOHANG)
    }
}

#[cfg(target_os = "linux")]
fn prepare(command: &[OsString], keeps_lock: bool) -> Command {
    if keeps_lock { plain(command) } else { crate::tied::command(command) }
}

#[cfg(not(target_os = "linux"))]
fn prepare(command: &[OsString], _keeps_lock: bool) -> Command {
    plain(command)
}

fn plain(command: &[OsString]) -> Command {
    let mut words = command.iter();
    let mut plain = Command::new(words.next().map_or_else(OsString::new, OsString::clone));
    plain.args(words);
    plain
}

pub(crate) fn not_started(program: &OsString, error: &io::Error) -> Failure {
    let program = program.to_string_lossy();
    match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::new(NOT_FOUND, format!("cannot find {program:?}; check its name and PATH"))
        }
        _ => Failure::new(NOT_EXECUTABLE, format!("cannot execute {program:?}")).because(error),
    }
}
