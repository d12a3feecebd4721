//! A command that ends with the `dlock` that started it, where nothing else would keep the lock.
//!
//! `dlock` starts itself once more, as `dlock tied`; that asks the kernel to be killed when its parent
//! dies, and becomes the command. What the command has started itself is not killed.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use clap::Args;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::child::not_started;
use crate::exit::{Failure, NOT_FOUND, UNAVAILABLE};

/// What `dlock tied` is told.
#[derive(Debug, Args)]
pub(crate) struct TiedArgs {
    /// Whose end is waited for.
    #[arg(long)]
    parent: i32,

    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// The start of a command that is tied to this process.
pub(crate) fn command(command: &[OsString]) -> Command {
    // This very program, even if its file was replaced.
    let mut tied = Command::new("/proc/self/exe");
    let parent = std::process::id().to_string();
    tied.arg0("dlock").args(["tied", "--parent", &parent, "--"]).args(command);
    tied
}

/// Becomes the command; returns only if that fails.
pub(crate) fn run(args: &TiedArgs) -> u8 {
    let Some((program, arguments)) = args.command.split_first() else {
        return Failure::new(NOT_FOUND, "there is no command to run").tell();
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        let failure = Failure::new(UNAVAILABLE, "cannot tie the command to the lock");
        return failure.because(&error).tell();
    }
    // It may have died before the kernel was asked.
    if getppid().map(Pid::as_raw_pid) != Some(args.parent) {
        return UNAVAILABLE;
    }
    let error = Command::new(program).args(arguments).exec();
    not_started(program, &error).tell()
}
