//! Every exit status, and the failures that end in one.

use std::error::Error;

use distributed_lock::error::LockError;
use nix::sys::signal::Signal;

use crate::command::tree::Status;
use crate::say::say;
use crate::terms;

/// The command line, the URL or the lock's name cannot be used (`EX_USAGE`).
pub(crate) const USAGE: u8 = 64;
/// The lock service cannot be reached, or refuses (`EX_UNAVAILABLE`).
pub(crate) const UNAVAILABLE: u8 = 69;
/// The lock was not acquired in time (`EX_TEMPFAIL`); `--conflict-exit-code` changes it.
pub(crate) const NOT_ACQUIRED: u8 = 75;
/// The lock was lost while the command ran; `--lost-exit-code` changes it.
pub(crate) const LOST: u8 = 76;
/// The command ran longer than `--max-run`, as with `timeout(1)`.
pub(crate) const RAN_TOO_LONG: u8 = 124;
/// The command was found and cannot be executed, as in the shell.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// The command was not found, as in the shell.
pub(crate) const NOT_FOUND: u8 = 127;
/// Added to the number of the signal that ended the command, or `dlock` while it waited.
pub(crate) const SIGNAL_BASE: u8 = 128;

/// How `dlock` ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Status(u8),
    /// By this signal, as if it did nothing about it.
    Signal(Signal),
}

impl End {
    /// As its command has ended. It dies by the signals that it got, too: then a shell ends its
    /// script. Other signals are the command's affair, and as under `flock(1)` only change the status.
    pub(crate) fn of_command(status: Status, received: &[Signal]) -> Self {
        let own = of_status(status);
        let shared = received.iter().find(|signal| of_signal(**signal as i32) == own);
        shared.map_or(Self::Status(own), |signal| Self::Signal(*signal))
    }

    /// The exit status that a shell shows for it.
    pub(crate) fn status(self) -> u8 {
        match self {
            Self::Status(status) => status,
            Self::Signal(signal) => of_signal(signal as i32),
        }
    }
}

fn of_status(status: Status) -> u8 {
    match status {
        Status::Code(code) => u8::try_from(code).unwrap_or(u8::MAX),
        Status::Signal(signal) => of_signal(signal),
    }
}

fn of_signal(signal: i32) -> u8 {
    u8::try_from(signal).ok().and_then(|signal| SIGNAL_BASE.checked_add(signal)).unwrap_or(u8::MAX)
}

/// Why `dlock` ends without the command's own status, and how.
#[derive(Debug)]
pub(crate) struct Failure {
    end: End,
    message: Option<String>,
}

impl Failure {
    /// A failure that is shown with this text.
    pub(crate) fn new(status: u8, message: impl Into<String>) -> Self {
        Self { end: End::Status(status), message: Some(message.into()) }
    }

    /// A failure that the user knows of, or does not want to be shown.
    pub(crate) fn silent(status: u8) -> Self {
        Self { end: End::Status(status), message: None }
    }

    /// A signal ended `dlock` before its command ran.
    pub(crate) fn by(signal: Signal) -> Self {
        Self { end: End::Signal(signal), message: None }
    }

    /// A failure to get or use a lock, with the status that its kind calls for.
    pub(crate) fn lock(doing: impl Into<String>, error: &LockError) -> Self {
        let status = match error {
            LockError::InvalidName(_) | LockError::Config(_) => USAGE,
            _ => UNAVAILABLE,
        };
        Self::new(status, doing).because(error)
    }

    /// Adds a cause and its causes.
    pub(crate) fn because(mut self, cause: &dyn Error) -> Self {
        let message = self.message.get_or_insert_default();
        message.push_str(": ");
        message.push_str(&chain(cause));
        self
    }

    /// Shows it, and returns the end.
    pub(crate) fn show(self) -> End {
        if let Some(message) = self.message {
            say(message);
        }
        self.end
    }
}

/// An error and its sources in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let said = source.to_string();
        // Some errors repeat their source in their own text.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = source.source();
    }
    terms::of_the_command_line(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_childs_status_is_passed_on() {
        let end = |status, received: &[Signal]| End::of_command(status, received);
        assert_eq!(end(Status::Code(0), &[]), End::Status(0));
        assert_eq!(end(Status::Code(255), &[Signal::SIGINT]), End::Status(255));
        assert_eq!(end(Status::Signal(15), &[]), End::Status(143));
        assert_eq!(end(Status::Signal(15), &[Signal::SIGINT]), End::Status(143));
        let both = [Signal::SIGINT, Signal::SIGTERM];
        assert_eq!(end(Status::Signal(15), &both), End::Signal(Signal::SIGTERM));
        assert_eq!(end(Status::Code(130), &both), End::Signal(Signal::SIGINT));
        assert_eq!(of_signal(9), 137);
    }

    #[test]
    fn the_whole_chain_is_told_once() {
        let error = LockError::connection(std::io::Error::other("refused"));
        assert_eq!(chain(&error), "the lock service did not answer: refused");
    }

    #[test]
    fn mistakes_and_outages_have_different_statuses() {
        let status = |error| Failure::lock("x", &error).end.status();
        assert_eq!(status(LockError::InvalidName("x".into())), USAGE);
        assert_eq!(status(LockError::Config("x".into())), USAGE);
        assert_eq!(status(LockError::Unsupported("x".into())), UNAVAILABLE);
        assert_eq!(status(LockError::backend("x")), UNAVAILABLE);
    }
}
