//! What a worker can be told, one line each.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use distributed_lock_core::Mode;

/// A command to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Comes first: who the worker is, where the resources that it writes to are, and its locks.
    Connect {
        /// The worker's name in the history.
        who: String,
        /// The directory of the resources.
        resources: PathBuf,
        /// What to connect to.
        url: String,
    },
    /// Begin random load.
    Load {
        /// Repeats the random choices.
        seed: u64,
        /// How many tasks at once.
        tasks: u64,
        /// What they use.
        targets: Vec<Target>,
    },
    /// End the random load, and say `resting` when it has ended.
    Rest,
    /// Begin to acquire.
    Acquire {
        /// What the attempt is called from now on, also in the history.
        attempt: u64,
        /// By which primitive.
        primitive: Primitive,
        /// How long to wait.
        timeout: Duration,
        /// Which lock.
        lock: String,
    },
    /// Write to the lock's resource with the fencing token, of an attempt that was granted.
    Write {
        /// Whose token.
        attempt: u64,
    },
    /// Release what an attempt was granted.
    Release {
        /// Whose lock.
        attempt: u64,
    },
}

/// A lock's name and the primitives that it is used by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The name: not empty, without spaces and `=`.
    pub lock: String,
    /// What it is acquired by; the more often named, the more often.
    pub primitives: Vec<Primitive>,
}

impl Target {
    /// A lock and its primitives.
    pub fn new(lock: impl Into<String>, primitives: &[Primitive]) -> Self {
        Self { lock: lock.into(), primitives: primitives.to_vec() }
    }
}

/// What a lock is acquired by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Primitive {
    /// A mutex.
    Mutex,
    /// The write lock of a reader-writer lock.
    Write,
    /// A read lock.
    Read,
    /// A permit of a semaphore with so many.
    Permit(u32),
}

impl Primitive {
    /// How that is asked for.
    #[must_use]
    pub fn mode(self) -> Mode {
        match self {
            Self::Mutex | Self::Write => Mode::Exclusive,
            Self::Read => Mode::Shared,
            Self::Permit(max) => Mode::Permit { max },
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "mutex" => Some(Self::Mutex),
            "write" => Some(Self::Write),
            "read" => Some(Self::Read),
            _ => Some(Self::Permit(text.strip_prefix("permit:")?.parse().ok()?)),
        }
    }
}

impl Command {
    /// Reads a command; `None` if it is none.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (command, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        Some(match (command, &words[..]) {
            ("connect", [who, resources, url]) => Self::Connect {
                who: (*who).into(),
                resources: resources.into(),
                url: (*url).into(),
            },
            ("load", [seed, tasks, targets @ ..]) => {
                let targets = targets.iter().map(|target| Target::parse(target));
                Self::Load {
                    seed: seed.parse().ok()?,
                    tasks: tasks.parse().ok()?,
                    targets: targets.collect::<Option<_>>()?,
                }
            }
            ("rest", []) => Self::Rest,
            ("acquire", [attempt, primitive, timeout, lock]) => Self::Acquire {
                attempt: attempt.parse().ok()?,
                primitive: Primitive::parse(primitive)?,
                timeout: Duration::from_millis(timeout.parse().ok()?),
                lock: (*lock).into(),
            },
            ("write", [attempt]) => Self::Write { attempt: attempt.parse().ok()? },
            ("release", [attempt]) => Self::Release { attempt: attempt.parse().ok()? },
            _ => return None,
        })
    }
}

impl Target {
    fn parse(text: &str) -> Option<Self> {
        let (lock, primitives) = text.split_once('=')?;
        let primitives = primitives.split(',').map(Primitive::parse).collect::<Option<_>>()?;
        Some(Self { lock: lock.into(), primitives })
    }
}

/// As [`Command::parse`] reads it.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { who, resources, url } => {
                write!(f, "connect {who} {} {url}", resources.display())
            }
            Self::Load { seed, tasks, targets } => {
                write!(f, "load {seed} {tasks}")?;
                targets.iter().try_for_each(|target| write!(f, " {target}"))
            }
            Self::Rest => f.write_str("rest"),
            Self::Acquire { attempt, primitive, timeout, lock } => {
                write!(f, "acquire {attempt} {primitive} {} {lock}", timeout.as_millis())
            }
            Self::Write { attempt } => write!(f, "write {attempt}"),
            Self::Release { attempt } => write!(f, "release {attempt}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let primitives: Vec<_> = self.primitives.iter().map(ToString::to_string).collect();
        write!(f, "{}={}", self.lock, primitives.join(","))
    }
}

impl fmt::Display for Primitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mutex => f.write_str("mutex"),
            Self::Write => f.write_str("write"),
            Self::Read => f.write_str("read"),
            Self::Permit(max) => write!(f, "permit:{max}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_as_they_are_written() {
        let targets =
            vec![Target::new("a", &[Primitive::Mutex]), Target::new("s", &[Primitive::Permit(3)])];
        let commands = [
            Command::Connect {
                who: "worker-1".into(),
                resources: "/tmp/resources".into(),
                url: "file:///tmp/locks".into(),
            },
            Command::Load { seed: 7, tasks: 3, targets },
            Command::Rest,
            Command::Acquire {
                attempt: 1,
                primitive: Primitive::Read,
                timeout: Duration::from_millis(20),
                lock: "a".into(),
            },
            Command::Write { attempt: 1 },
            Command::Release { attempt: 1 },
        ];
        for command in commands {
            assert_eq!(Command::parse(&command.to_string()), Some(command));
        }
        for wrong in ["", "hold", "acquire 1 mutex a", "load 1 2 a=lock", "release one"] {
            assert_eq!(Command::parse(wrong), None, "{wrong:?}");
        }
    }
}
