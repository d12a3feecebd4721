//! Fencing tokens, and the random tokens that name attempts.

use std::fmt;

use crate::error::{LockError, LockResult};

/// A number that a protected resource can compare to refuse a holder whose lock has passed on.
///
/// Of two *conflicting* holds of a name the later one has the greater token. Concurrent shared or
/// permit holds get distinct tokens in no stated order. Tokens of different backends, or of
/// different data sets of one backend, must not be compared.
///
/// Kleppmann, "How to do distributed locking" (2016), explains why a lock alone is not enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken(pub u64);

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 128 bits from the operating system that name one attempt at a lock, so that a release,
/// extension or withdrawal can never touch anybody else's.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttemptToken([u8; 16]);

impl AttemptToken {
    /// Draws a new token.
    ///
    /// # Errors
    /// [`LockError::Backend`] if the operating system has no randomness to give.
    pub fn random() -> LockResult<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(LockError::backend)?;
        Ok(Self(bytes))
    }
}

/// 32 lower-case hexadecimal digits.
impl fmt::Display for AttemptToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It names every request of a lock: one write, not sixteen.
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 32];
        for (digits, byte) in hex.chunks_exact_mut(2).zip(self.0) {
            digits[0] = DIGITS[usize::from(byte >> 4)];
            digits[1] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&hex).map_err(|_| fmt::Error)?)
    }
}

/// Shows a few digits only: who knows a token can release the lock.
impl fmt::Debug for AttemptToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AttemptToken({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempt_tokens_are_distinct_and_not_shown_whole() {
        let (one, other) = (AttemptToken::random().unwrap(), AttemptToken::random().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.to_string().len(), 32);
        let counted =
            AttemptToken(*b"\x00\x01\x0f\x10\x7f\x80\x9a\xab\xbc\xcd\xde\xef\xf0\xfe\xff\x42");
        assert_eq!(counted.to_string(), "00010f107f809aabbccddeeff0feff42");
        assert!(!format!("{one:?}").contains(&one.to_string()));
    }
}
