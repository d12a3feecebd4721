//! A running command under its lock: signals, stops, loss, and the end.

use std::io;
use std::process::ExitStatus;

use distributed_lock::DynHandle;
use distributed_lock::prelude::*;
use nix::sys::signal::Signal;

use crate::child::{Change, Child};
use crate::loss::LossWatch;
use crate::say::say;
use crate::signals::Signals;
use crate::terminal::{Terminal, Then};

/// How a command ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// By itself, or by a signal that was not ours.
    Own(ExitStatus),
    /// Because the lock was lost, which was told.
    Lost,
}

/// Waits until the command has ended, and ends it if its lock is lost.
///
/// # Errors
/// If the command's status cannot be read; it has ended then too.
pub(crate) async fn supervise(
    mut child: Child,
    name: &str,
    handle: &DynHandle,
    signals: &mut Signals,
) -> io::Result<Ending> {
    let terminal = Terminal::lend(child.group());
    let watch = LossWatch::new(handle);
    loop {
        tokio::select! {
            biased;
            reason = watch.loss(handle) => {
                say(format!("lost the lock {name:?}, so the command is ended: {reason}"));
                end(&mut child, &watch, handle).await;
                drop(terminal);
                return child.reap().map(|_| Ending::Lost);
            }
            change = child.change() => match change {
                Change::Ended => {
                    drop(terminal);
                    return child.reap().map(Ending::Own);
                }
                Change::Stopped(by) => {
                    if terminal.stopped(by) == Then::Continue {
                        resume(&child, &terminal, handle);
                    }
                }
            },
            signal = signals.next() => match signal {
                Signal::SIGCONT => resume(&child, &terminal, handle),
                signal => child.signal_group(signal),
            },
        }
    }
}

/// Continues the command, unless the lock was lost while `dlock` was stopped.
fn resume(child: &Child, terminal: &Terminal, handle: &DynHandle) {
    if !handle.is_lost() {
        terminal.hand_over();
        child.signal_group(Signal::SIGCONT);
    }
}

/// Ends the whole process group before anybody else can have the lock, as far as that is known.
async fn end(child: &mut Child, watch: &LossWatch, handle: &DynHandle) {
    child.signal_group(Signal::SIGTERM);
    // Who is stopped cannot end.
    child.signal_group(Signal::SIGCONT);
    // Either way the next step is the same.
    let _ = tokio::time::timeout(watch.grace(handle), child.ended()).await;
    // Also if the command has ended: what it has started must not go on.
    child.signal_group(Signal::SIGKILL);
    child.ended().await;
}
