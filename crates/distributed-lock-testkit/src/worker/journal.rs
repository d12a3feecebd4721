//! What a worker says: its part of the history, line by line as it happens.

use std::io::{self, Write};
use std::time::Duration;

pub(super) use crate::history::now;
use crate::history::{Event, What};

/// Precedes what a worker says on its output, where a test harness may print other things.
pub(crate) const SAYS: &str = "worker says ";

/// Writes the history of one worker to its output.
#[derive(Debug)]
pub(super) struct Journal {
    who: String,
}

impl Journal {
    pub(super) fn of(who: String) -> Self {
        Self { who }
    }

    /// Logs what happens now.
    pub(super) fn log(&self, attempt: u64, lock: &str, what: What) {
        self.log_at(now(), attempt, lock, what);
    }

    /// Logs what happened at a time that was taken while it did.
    pub(super) fn log_at(&self, at: Duration, attempt: u64, lock: &str, what: What) {
        let event = Event { at, who: self.who.clone(), attempt, lock: lock.to_owned(), what };
        say(&event.to_line());
    }
}

/// Says a line in one write, so that nobody sees half of it when this process is killed.
pub(super) fn say(line: &str) {
    let mut output = io::stdout().lock();
    let said = output.write_all(format!("{SAYS}{line}\n").as_bytes());
    if said.and_then(|()| output.flush()).is_err() {
        // Nobody listens any more.
        std::process::exit(1);
    }
}
