//! Every exit status, and the failures that end in one.

use std::error::Error;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use distributed_lock::error::LockError;

use crate::say::say;

/// The command line, the URL or the lock's name cannot be used (`EX_USAGE`).
pub(crate) const USAGE: u8 = 64;
/// The lock service cannot be reached, or refuses (`EX_UNAVAILABLE`).
pub(crate) const UNAVAILABLE: u8 = 69;
/// The lock was not acquired in time (`EX_TEMPFAIL`); `--conflict-exit-code` changes it.
pub(crate) const NOT_ACQUIRED: u8 = 75;
/// The lock was lost while the command ran.
pub(crate) const LOST: u8 = 76;
/// The command was found and cannot be executed, as in the shell.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// The command was not found, as in the shell.
pub(crate) const NOT_FOUND: u8 = 127;
/// Added to the number of the signal that ended the command, or `dlock` while it waited.
pub(crate) const SIGNAL_BASE: u8 = 128;

/// The exit status for a child that ended.
pub(crate) fn of_child(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
        (None, Some(signal)) => of_signal(signal),
        (None, None) => u8::MAX,
    }
}

/// The exit status for an end by this signal.
pub(crate) fn of_signal(signal: i32) -> u8 {
    u8::try_from(signal).ok().and_then(|signal| SIGNAL_BASE.checked_add(signal)).unwrap_or(u8::MAX)
}

/// Why `dlock` ends without the command's own status, and with which.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    message: Option<String>,
}

impl Failure {
    /// A failure that is told with this text.
    pub(crate) fn new(status: u8, message: impl Into<String>) -> Self {
        Self { status, message: Some(message.into()) }
    }

    /// A failure of which the user knows, or does not want to hear.
    pub(crate) fn silent(status: u8) -> Self {
        Self { status, message: None }
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

    /// Tells the user, and returns the status.
    pub(crate) fn tell(self) -> u8 {
        if let Some(message) = self.message {
            say(message);
        }
        self.status
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
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_childs_status_is_passed_on() {
        assert_eq!(of_child(ExitStatus::from_raw(0)), 0);
        assert_eq!(of_child(ExitStatus::from_raw(255 << 8)), 255);
        assert_eq!(of_child(ExitStatus::from_raw(15)), 143);
        assert_eq!(of_signal(9), 137);
    }

    #[test]
    fn the_whole_chain_is_told_once() {
        let error = LockError::connection(std::io::Error::other("refused"));
        assert_eq!(chain(&error), "the lock service did not answer: refused");
    }

    #[test]
    fn mistakes_and_outages_have_different_statuses() {
        let status = |error| Failure::lock("x", &error).status;
        assert_eq!(status(LockError::InvalidName("x".into())), USAGE);
        assert_eq!(status(LockError::Config("x".into())), USAGE);
        assert_eq!(status(LockError::Unsupported("x".into())), UNAVAILABLE);
        assert_eq!(status(LockError::backend("x")), UNAVAILABLE);
    }
}
