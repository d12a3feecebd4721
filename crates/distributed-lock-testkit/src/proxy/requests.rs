//! Counting requests, in whichever protocol a connection speaks.

use super::postgres_messages::Messages;
use super::resp::Commands;

/// Counts the requests in what one client sends.
#[derive(Debug, Default)]
pub(super) enum Requests {
    /// Nothing came yet.
    #[default]
    Unknown,
    Redis(Commands),
    Postgres(Messages),
    /// Encrypted, or of neither kind.
    Other,
}

impl Requests {
    /// How many requests begin in these bytes, which follow those before.
    pub(super) fn count(&mut self, bytes: &[u8]) -> usize {
        if let (Self::Unknown, Some(first)) = (&*self, bytes.first()) {
            *self = match first {
                // A length of fewer than 2^24 bytes.
                0 => Self::Postgres(Messages::default()),
                0x16 => Self::Other,
                _ => Self::Redis(Commands::default()),
            };
        }
        match self {
            Self::Redis(commands) => bytes.iter().filter(|byte| commands.begins(**byte)).count(),
            Self::Postgres(messages) => bytes.iter().filter(|byte| messages.begins(**byte)).count(),
            Self::Unknown | Self::Other => 0,
        }
    }
}
