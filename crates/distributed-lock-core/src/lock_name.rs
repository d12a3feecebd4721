//! Lock names, checked once.

use std::fmt;

use crate::error::{LockError, LockResult};

/// A name that any backend can use: UTF-8 of at most [`LockName::MAX_BYTES`] bytes.
///
/// Nothing else is excluded: the empty name, control characters, path separators and text that
/// looks like SQL are names like any other, and names that differ in any byte are different locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockName<'a>(&'a str);

impl<'a> LockName<'a> {
    /// The longest name, in bytes of UTF-8.
    pub const MAX_BYTES: usize = 1024;

    /// Checks a name.
    ///
    /// # Errors
    /// [`LockError::InvalidName`] if it is longer than [`MAX_BYTES`](Self::MAX_BYTES).
    pub fn parse(name: &'a str) -> LockResult<Self> {
        if name.len() > Self::MAX_BYTES {
            return Err(LockError::InvalidName(format!(
                "{} bytes long, the limit is {}; hash long names before use",
                name.len(),
                Self::MAX_BYTES
            )));
        }
        Ok(Self(name))
    }

    /// The name as given.
    #[must_use]
    pub fn as_str(&self) -> &'a str {
        self.0
    }
}

impl fmt::Display for LockName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_in_bytes() {
        assert!(LockName::parse("").is_ok());
        assert!(LockName::parse(&"a".repeat(1024)).is_ok());
        assert!(matches!(LockName::parse(&"a".repeat(1025)), Err(LockError::InvalidName(_))));
        assert!(LockName::parse(&"é".repeat(512)).is_ok());
        assert!(matches!(LockName::parse(&"é".repeat(513)), Err(LockError::InvalidName(_))));
    }
}
