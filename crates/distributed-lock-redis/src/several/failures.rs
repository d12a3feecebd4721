//! What servers said instead of doing what they were asked, and which of it the caller gets.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use distributed_lock_core::error::{LockError, NoAnswer, Transient};

use super::Several;
use crate::redlock::servers::{ServerId, ServerSet};

/// The failures of one request to several servers.
#[derive(Debug, Default)]
pub(super) struct Failures(Vec<(ServerId, Failure)>);

#[derive(Debug, Clone)]
struct Failure {
    kind: Kind,
    source: Arc<dyn Error + Send + Sync>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    NoAnswer,
    Passes,
    Refused,
}

impl Failures {
    /// A server has failed.
    pub(super) fn add(&mut self, server: ServerId, error: LockError) {
        let (kind, source) = match error {
            LockError::Connection(source) => (Kind::NoAnswer, source),
            error if error.is_retryable() => match error {
                LockError::Backend(source) => (Kind::Passes, source),
                other => (Kind::Passes, other.into()),
            },
            LockError::Backend(source) => (Kind::Refused, source),
            other => (Kind::Refused, other.into()),
        };
        self.0.push((server, Failure { kind, source: source.into() }));
    }

    /// These servers did not answer for so long.
    pub(super) fn add_silent(&mut self, servers: ServerSet, waited: Duration) {
        servers.iter().for_each(|server| self.add(server, LockError::connection(NoAnswer(waited))));
    }

    /// The error for a request that too few servers have done. It is a lasting refusal only if so many
    /// refused that the others are no majority: else the same request can succeed later, and a refusal is
    /// reported only for want of another reason.
    pub(super) fn error(&self, several: &Several) -> LockError {
        let refused: ServerSet = self.of(Kind::Refused).map(|(server, _)| server).collect();
        let others = several.quorum.all().without(refused);
        let is_lasting = !several.quorum.has(others);
        let lasting = is_lasting.then(|| self.of(Kind::Refused).next_back()).flatten();
        let passing = || self.of(Kind::Passes).next_back();
        let silent = || self.of(Kind::NoAnswer).next_back();
        if let Some((server, failure)) = lasting.or_else(passing).or_else(silent) {
            return failure.of_server(several, server, failure.kind);
        }
        match self.of(Kind::Refused).next_back() {
            Some((server, failure)) => failure.of_server(several, server, Kind::Passes),
            None => several.too_few(),
        }
    }

    fn of(&self, kind: Kind) -> impl DoubleEndedIterator<Item = (ServerId, &Failure)> {
        let is_it = move |(_, failure): &&(ServerId, Failure)| failure.kind == kind;
        self.0.iter().filter(is_it).map(|(server, failure)| (*server, failure))
    }
}

impl Failure {
    fn of_server(&self, several: &Several, server: ServerId, kind: Kind) -> LockError {
        let source = OfServer {
            number: server.0 + 1,
            servers: several.members.len(),
            source: Arc::clone(&self.source),
        };
        match kind {
            Kind::NoAnswer => LockError::connection(source),
            Kind::Passes => LockError::transient(source),
            Kind::Refused => LockError::backend(source),
        }
    }
}

/// Which of several servers an error is about.
#[derive(Debug)]
struct OfServer {
    number: u8,
    servers: usize,
    source: Arc<dyn Error + Send + Sync>,
}

impl fmt::Display for OfServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server {} of {}", self.number, self.servers)
    }
}

impl Error for OfServer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self.source.downcast_ref::<Transient>() {
            // Said by what wraps this.
            Some(transient) => transient.source(),
            None => Some(&*self.source),
        }
    }
}
