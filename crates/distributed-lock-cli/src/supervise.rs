//! A running command under its lock: signals, loss, and the end.

use std::future::pending;
use std::time::Duration;

use distributed_lock::DynHandle;
use nix::sys::signal::Signal;

use crate::args::RunArgs;
use crate::command::Command;
use crate::command::link::Report;
use crate::command::tree::{self, Status};
use crate::events::{Event, Events, Received};
use crate::loss::LossWatch;
use crate::say::say;

/// How long a command may take to end after `SIGTERM`, if no lease says less.
const GRACE: Duration = Duration::from_secs(5);
/// How often the tree of processes is looked at while it ends.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How long killed processes may take to end before `dlock` ends without them.
const KILLED: Duration = Duration::from_secs(5);

/// How a command ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// By itself, or by a signal that was not ours; with the signals that `dlock` got meanwhile.
    Own(Status, Vec<Signal>),
    /// Because the lock was lost, which was reported.
    Lost,
    /// Because it ran for as long as it may, which was reported.
    TooLong,
    /// Because the process that watches over it was killed, which was reported.
    Unwatched,
}

/// Waits until the command has ended, and ends it if its lock is lost.
pub(crate) async fn supervise(
    command: Command,
    args: &RunArgs,
    handle: &DynHandle,
    events: &mut Events,
) -> Ending {
    let name = &args.name;
    let watch = LossWatch::new(handle);
    let mut received = Vec::new();
    let mut too_long = std::pin::pin!(sleep(args.max_run));
    let status = loop {
        tokio::select! {
            biased;
            reason = watch.loss(handle, |left| command.extend(left)) => {
                say(format!("lost the lock {name:?}, so the command is ended: {reason}"));
                end(&command, watch.grace(handle), events).await;
                return Ending::Lost;
            }
            event = events.next() => match event {
                Event::Ended(status) => break status,
                Event::Signal(signal) => pass_on(&command, signal, &mut received),
            },
            report = command.report() => match report {
                Some(Report::Ended(status)) => break status,
                Some(Report::Expired) => {
                    say(format!("the lease of {name:?} was not extended in time, so the command was \
                                 killed"));
                    end(&command, Duration::ZERO, events).await;
                    return Ending::Lost;
                }
                Some(Report::Started(_) | Report::NotStarted(_)) => {}
                None => {
                    say("the second process of dlock was killed, so the command is ended");
                    end(&command, Duration::ZERO, events).await;
                    return Ending::Unwatched;
                }
            },
            () = &mut too_long => {
                say(format!("{name:?} ran for {:?}, so the command is ended", args.max_run.unwrap_or_default()));
                end(&command, watch.grace(handle), events).await;
                return Ending::TooLong;
            }
        }
    };
    // A signal of the terminal reached this process before it ended the command.
    while let Some(signal) = events.pending_signal() {
        received.push(signal.signal);
    }
    Ending::Own(status, received)
}

/// Passes a signal on, unless the command has it already.
fn pass_on(command: &Command, received: Received, all: &mut Vec<Signal>) {
    all.push(received.signal);
    match received {
        Received { by_terminal: true, .. } => {}
        Received { signal: signal @ (Signal::SIGUSR1 | Signal::SIGUSR2), .. } => {
            command.signal(signal);
        }
        Received { signal, .. } => command.signal_group(signal),
    }
}

/// Ends the command and everything that it has started, before the lock can have passed on as far as
/// that is known, and names what may not be ended.
async fn end(command: &Command, grace: Duration, events: &mut Events) {
    if !grace.is_zero() {
        command.signal_tree(Signal::SIGTERM);
        // What is stopped cannot end.
        command.signal_tree(Signal::SIGCONT);
        // Either way the next step is the same.
        let _ = tokio::time::timeout(grace.min(GRACE), gone(command, events)).await;
    }
    let killed = tokio::time::timeout(KILLED, async {
        loop {
            let round = command.kill_tree();
            if round.reached == 0 {
                break round.refused;
            }
            look_again(events).await;
        }
    });
    match killed.await {
        Ok(refused) if refused.is_empty() => {}
        Ok(refused) => say(format!(
            "processes go on without the lock, because they may not be ended: {}",
            tree::describe(&refused)
        )),
        Err(_) => say("processes that were killed do not end; dlock does not wait for them"),
    }
}

/// Waits until nothing of the tree is left that a signal reaches.
async fn gone(command: &Command, events: &mut Events) {
    loop {
        tree::reap(|_, _| {});
        // No signal: only a look.
        if command.runs().is_some_and(|runs| !runs) {
            return;
        }
        look_again(events).await;
    }
}

async fn look_again(events: &mut Events) {
    tokio::select! {
        () = events.child_ended() => {}
        () = tokio::time::sleep(LOOK_AGAIN) => {}
    }
}

async fn sleep(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => pending().await,
    }
}
