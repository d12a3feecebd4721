//! What reaches `dlock` from outside: signals, and the ends of its children.
//!
//! Signals are read, not handled, where the system can do that: so `dlock` can die by one as any other
//! program, and knows which ones came from the terminal.

#[cfg(target_os = "linux")]
#[path = "signalfd.rs"]
mod source;
#[cfg(not(target_os = "linux"))]
#[path = "handlers.rs"]
mod source;

use std::future::Future;

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;
use tokio::signal::unix::{self, SignalKind};

use self::source::Source;
use crate::command::tree::{self, Status};
use crate::exit::{Failure, UNAVAILABLE};

/// What `dlock` passes on to the command, and what ends it while it waits.
const PASSED_ON: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// A signal to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) signal: Signal,
    /// The terminal sent it to the whole group, the command included.
    pub(crate) by_terminal: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Signal(Received),
    /// The awaited child has ended.
    Ended(Status),
}

/// The events of this process, until it ends.
#[derive(Debug)]
pub(crate) struct Events {
    source: Source,
    children: unix::Signal,
    awaited: Option<Pid>,
}

impl Events {
    /// Receives the signals that `dlock` passes on, except those that its caller has it ignore.
    ///
    /// `nohup` and shells that start jobs in the background make their children ignore signals;
    /// `dlock` and the command go on doing so. Whether signals were blocked makes no difference.
    pub(crate) fn catch() -> Result<Self, Failure> {
        let failed = |error: &dyn std::error::Error| {
            Failure::new(UNAVAILABLE, "cannot receive signals").because(error)
        };
        let ignored = ignored();
        let mut caught = SigSet::empty();
        for signal in PASSED_ON.into_iter().filter(|signal| ignored & bit(*signal) == 0) {
            caught.add(signal);
        }
        let source = Source::new(&caught).map_err(|error| failed(&error))?;
        // By a handler: the statuses of the children of a process that ignores SIGCHLD are lost.
        let children = unix::signal(SignalKind::child()).map_err(|error| failed(&error))?;
        Ok(Self { source, children, awaited: None })
    }

    /// Reports the end of this child, which was started since the last call of another method.
    pub(crate) fn await_child(&mut self, child: Option<Pid>) {
        self.awaited = child;
    }

    /// The next event. Nothing is missed if the future is dropped.
    ///
    /// Takes the statuses of all other children, which this process may get as a reaper or as the first
    /// process of a container.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            if let Some(received) = self.source.read() {
                return Event::Signal(received);
            }
            let mut status = None;
            tree::reap(|pid, ended| {
                if Some(pid) == self.awaited {
                    status = Some(ended);
                }
            });
            if let Some(status) = status {
                return Event::Ended(status);
            }
            tokio::select! {
                () = self.source.ready() => {}
                _ = self.children.recv() => {}
            }
        }
    }

    /// A signal that has been sent already, if there is one.
    pub(crate) fn pending_signal(&mut self) -> Option<Received> {
        self.source.read()
    }

    /// Waits for any child to end, with its status left for [`tree::reap`].
    pub(crate) async fn child_ended(&mut self) {
        self.children.recv().await;
    }

    /// Runs `future` unless a signal ends it, which is then the failure.
    pub(crate) async fn interrupting<F: Future>(
        &mut self,
        future: F,
    ) -> Result<F::Output, Failure> {
        let mut future = std::pin::pin!(future);
        loop {
            tokio::select! {
                biased;
                event = self.next() => if let Event::Signal(received) = event {
                    return Err(Failure::by(received.signal));
                },
                output = &mut future => return Ok(output),
            }
        }
    }
}

/// Ends this process by a signal, as if `dlock` did nothing about it; returns if that is not possible:
/// to the first process of a container, signals do nothing.
pub(crate) fn die_by(signal: Signal) {
    // What is to be seen in a core is the command's.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_dumpable(false);
    // On failure the exit status says the same.
    let _ = nix::sys::signal::raise(signal);
    let _ = SigSet::from(signal).thread_unblock();
}

fn bit(signal: Signal) -> u64 {
    1 << (signal as i32 - 1)
}

/// The set of ignored signals, where the system tells it without a call that is `unsafe`.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    parse_ignored(&status).unwrap_or_default()
}

fn parse_ignored(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status() {
        let mask = parse_ignored("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n").unwrap();
        assert_ne!(mask & bit(Signal::SIGHUP), 0);
        assert_eq!(mask & bit(Signal::SIGTERM), 0);
        assert_eq!(parse_ignored("Name:\tdlock\n"), None);
    }
}
