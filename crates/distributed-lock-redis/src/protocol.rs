//! Which version of the protocol is spoken.

use redis::ProtocolVersion;

/// The version of the protocol between client and server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RedisProtocol {
    /// RESP3 if the server speaks it, else RESP2.
    #[default]
    Auto,
    /// RESP2: waiting takes a second connection.
    Resp2,
    /// RESP3: one connection for everything.
    Resp3,
}

impl RedisProtocol {
    /// What to try, in order.
    pub(crate) fn versions(self) -> &'static [ProtocolVersion] {
        match self {
            Self::Auto => &[ProtocolVersion::RESP3, ProtocolVersion::RESP2],
            Self::Resp2 => &[ProtocolVersion::RESP2],
            Self::Resp3 => &[ProtocolVersion::RESP3],
        }
    }
}
