//! The command: how it starts, and everything below it.
//!
//! It runs in the process group of `dlock`, as under `flock(1)`, so that a terminal's signals and job
//! control reach it as ever. Where it inherits what keeps the lock, `dlock` is its parent. Elsewhere a
//! [`reaper`] is, which ends it when `dlock` is killed.

#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux has a reaper"))]
pub(crate) mod link;
#[cfg(target_os = "linux")]
pub(crate) mod reaper;
pub(crate) mod spawn;
mod start;
mod table;
pub(crate) mod tree;

use std::ffi::CString;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgrp};
use rustix::io::{FdFlags, fcntl_setfd};

use self::link::{Deadline, Report};
use self::spawn::Setting;
use self::tree::Round;
use crate::exit::{Failure, NOT_EXECUTABLE, NOT_FOUND, UNAVAILABLE};

/// What is to be run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) words: Vec<OsString>,
    pub(crate) environment: Vec<CString>,
    /// What keeps the lock as long as it is open. It is open in the command, in what that starts, and
    /// nowhere else. Without one the command ends with `dlock`.
    pub(crate) keep_alive: Option<OwnedFd>,
}

/// A started command.
#[derive(Debug)]
pub(crate) struct Command {
    pid: Pid,
    #[cfg(target_os = "linux")]
    reaper: Option<start::Reaper>,
}

impl Command {
    /// Starts the command.
    pub(crate) async fn start(plan: Plan) -> Result<Self, Failure> {
        tree::adopt_orphans();
        #[cfg(target_os = "linux")]
        if plan.keep_alive.is_none() {
            let (reaper, pid) = start::Reaper::start(&plan).await?;
            return Ok(Self { pid, reaper: Some(reaper) });
        }
        if let Some(descriptor) = &plan.keep_alive {
            // Nothing else is started between here and the end of this function.
            fcntl_setfd(descriptor, FdFlags::empty()).map_err(|error| {
                Failure::new(UNAVAILABLE, "cannot pass the lock on to the command").because(&error)
            })?;
        }
        let pid = spawn::spawn(&plan.words, &plan.environment, Setting::default())
            .map_err(|error| not_started(&plan.words, error))?;
        Ok(Self {
            pid,
            #[cfg(target_os = "linux")]
            reaper: None,
        })
    }

    /// The process whose end the caller has to wait for as its parent; `None` if
    /// [`report`](Self::report) tells of it.
    pub(crate) fn child(&self) -> Option<Pid> {
        self.reaper_pid().is_none().then_some(self.pid)
    }

    /// What the reaper reports, or `None` if it was killed; waits for ever where there is none.
    ///
    /// Nothing is missed if the future is dropped.
    pub(crate) async fn report(&self) -> Option<Report> {
        #[cfg(target_os = "linux")]
        if let Some(reaper) = &self.reaper {
            return reaper.report().await;
        }
        std::future::pending().await
    }

    /// Lets the command run for so long from now, if `dlock` does not say more.
    pub(crate) fn extend(&self, left: Duration) {
        #[cfg(target_os = "linux")]
        if let Some(reaper) = &self.reaper {
            reaper.extend(Deadline::after(left));
        }
        #[cfg(not(target_os = "linux"))]
        let _ = Deadline::after(left);
    }

    /// Signals the command and what runs in its process group with it.
    pub(crate) fn signal_group(&self, signal: Signal) {
        let group = getpgrp();
        let wanted = |process: &table::Process| {
            process.pid == self.pid || process.group == group && !self.is_reaper(process.pid)
        };
        // What may not be signalled is no reason to end.
        tree::signal(signal, self.pid, wanted);
    }

    /// Signals the command alone.
    pub(crate) fn signal(&self, signal: Signal) {
        // It may have ended.
        let _ = kill(self.pid, signal);
    }

    /// Signals the command and everything that it has started.
    pub(crate) fn signal_tree(&self, signal: Signal) -> Round {
        tree::signal(signal, self.pid, |process| !self.is_reaper(process.pid))
    }

    /// Whether anything of the tree but the reaper still runs. `None` if the system does not tell.
    pub(crate) fn runs(&self) -> Option<bool> {
        let tree = table::below(Pid::this())?;
        Some(tree.iter().any(|process| !process.ended && !self.is_reaper(process.pid)))
    }

    /// Kills what [`signal_tree`](Self::signal_tree) reaches, and the reaper.
    pub(crate) fn kill_tree(&self) -> Round {
        tree::kill_all(self.pid)
    }

    fn is_reaper(&self, pid: Pid) -> bool {
        self.reaper_pid() == Some(pid)
    }

    fn reaper_pid(&self) -> Option<Pid> {
        #[cfg(target_os = "linux")]
        return self.reaper.as_ref().map(start::Reaper::pid);
        #[cfg(not(target_os = "linux"))]
        None
    }
}

/// Why a command does not run, with the shell's status for that.
fn not_started(words: &[OsString], error: Errno) -> Failure {
    let program = words.first().map(|word| word.to_string_lossy()).unwrap_or_default();
    match error {
        Errno::ENOENT => {
            Failure::new(NOT_FOUND, format!("cannot find {program:?}; check its name and PATH"))
        }
        Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE => {
            Failure::new(UNAVAILABLE, "cannot start a process").because(&error)
        }
        _ => Failure::new(NOT_EXECUTABLE, format!("cannot execute {program:?}")).because(&error),
    }
}
