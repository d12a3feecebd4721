//! Signals to everything that descends from this process, and taking the statuses of what ended.
//!
//! This process is a *subreaper* where the system has them: whatever loses its parent becomes its
//! child, in whatever group or session it is, so nothing leaves the tree.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::process::{WaitId, WaitIdOptions, WaitOptions, waitid};

use super::table::{self, Process};

/// The greatest process id that Linux gives.
const LAST_PID: i32 = 4_194_304;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Code(i32),
    Signal(i32),
}

/// Makes this process the parent of everything below it that loses its own.
///
/// Elsewhere than on Linux nothing can do that without `unsafe`; there only what still has its parents
/// is found.
pub(crate) fn adopt_orphans() {
    // Linux has it since 3.4.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_child_subreaper(true);
}

/// Takes the status of every child that has ended, and calls `ended` with each.
///
/// Returns whether there are children left.
pub(crate) fn reap(mut ended: impl FnMut(Pid, Status)) -> bool {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                let status = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Status::Code(code),
                    (None, Some(signal)) => Status::Signal(signal),
                    (None, None) => continue,
                };
                ended(Pid::from_raw(pid.as_raw_nonzero().get()), status);
            }
            Err(rustix::io::Errno::INTR) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// What a round of signals has met.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// How many processes took the signal.
    pub(crate) reached: usize,
    /// Those that may not be signalled.
    pub(crate) refused: Vec<Process>,
}

impl Round {
    fn send(&mut self, process: Process, signal: Signal) {
        match kill(process.pid, signal) {
            Ok(()) => self.reached += 1,
            Err(Errno::EPERM) => self.refused.push(process),
            // It has ended.
            Err(_) => {}
        }
    }
}

/// Signals every process of the tree that `wanted` accepts; only `command` where the system does not
/// list its processes.
pub(crate) fn signal(signal: Signal, command: Pid, wanted: impl Fn(&Process) -> bool) -> Round {
    let mut round = Round::default();
    match table::below(Pid::this()) {
        Some(tree) => tree
            .into_iter()
            .filter(|process| !process.ended && wanted(process))
            .for_each(|process| round.send(process, signal)),
        None => round.send(Process::unnamed(command, Pid::this()), signal),
    }
    round
}

/// Kills every process of the tree that is there now, and takes the statuses of those that have ended.
///
/// What was started meanwhile is found by the next round: the tree is gone when nothing was reached.
pub(crate) fn kill_all(command: Pid) -> Round {
    let round = signal(Signal::SIGKILL, command, |_| true);
    let has_children = reap(|_, _| {});
    if has_children && round.reached == 0 && round.refused.is_empty() {
        // Children that are not listed: /proc is not mounted, or hides them.
        return kill_unlisted(command);
    }
    round
}

/// Finds children without a list of processes: the kernel tells for each id whether it is a child.
fn kill_unlisted(command: Pid) -> Round {
    let mut round = Round::default();
    // What the command started came after it.
    let (first, last) = (command.as_raw().max(2), LAST_PID);
    for pid in (first..=last).chain(2..first) {
        let Some(id) = rustix::process::Pid::from_raw(pid) else { continue };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let Ok(ended) = waitid(WaitId::Pid(id), options) else { continue };
        if ended.is_none() {
            round.send(Process::unnamed(Pid::from_raw(pid), Pid::this()), Signal::SIGKILL);
        }
        if !reap(|_, _| {}) {
            break;
        }
    }
    round
}

/// What the user is told of processes that were not ended.
pub(crate) fn describe(left: &[Process]) -> String {
    let names = left.iter().map(|process| match process.name.as_str() {
        "" => format!("pid {}", process.pid),
        name => format!("pid {} ({name})", process.pid),
    });
    names.collect::<Vec<_>>().join(", ")
}
