//! What came of it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::history::Event;
use crate::nemesis::Tally;
use crate::worker::Target;

/// What was done, met and found wrong.
#[derive(Debug)]
pub struct Report {
    /// The seed of what was random.
    pub seed: u64,
    /// How long the random part took.
    pub length: Duration,
    /// What scheduling was allowed on top of bounds.
    pub epsilon: Duration,
    /// What was used: what the backend supports.
    pub targets: Vec<Target>,
    /// Counts of the random part's faults, and of everything else.
    pub tally: Tally,
    /// Every promise that was not kept.
    pub failures: Vec<String>,
    /// The whole history.
    pub events: Vec<Event>,
}

impl Report {
    /// Keeps the history in a file.
    ///
    /// # Errors
    /// Of writing it.
    pub fn keep(&self) -> std::io::Result<PathBuf> {
        let name = format!("distributed-lock-{}-{}.history", std::process::id(), self.seed);
        let path = std::env::temp_dir().join(name);
        let lines: Vec<String> = self.events.iter().map(Event::to_line).collect();
        std::fs::write(&path, lines.join("\n"))?;
        Ok(path)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, length, epsilon, targets, tally, failures, events } = self;
        let targets: Vec<_> = targets.iter().map(ToString::to_string).collect();
        writeln!(f, "seed {seed}, {length:?} on {}", targets.join(" "))?;
        write!(f, "{tally}")?;
        writeln!(f, "{} events; bounds + {epsilon:?} for this machine's noise", events.len())?;
        writeln!(f, "{} violations", failures.len())?;
        failures.iter().try_for_each(|failure| writeln!(f, "\n{failure}"))
    }
}
