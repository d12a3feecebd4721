//! How much a server sends before it is ready again, measured while it arrives: a pure state machine over
//! the protocol's framing.
//!
//! The client library collects the answer to a request until it is complete, however long the server says
//! that it is. Here a longer one ends the connection. Connections with TLS are not measured: their server
//! has shown its certificate.

/// Above anything that a lock's request is answered with.
const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// An answer is longer than any that a lock needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server's answer is longer than any to a request for a lock; is it a PostgreSQL server?"
)]
pub(super) struct TooLong;

/// Follows the messages of the protocol, version 3.
#[derive(Debug, Default)]
pub(super) struct MessageMeter {
    at: At,
    /// Since the server was ready last.
    bytes: u64,
    /// Whether it ever was: what comes by itself is collected until then, and passed on from then on.
    was_ready: bool,
}

#[derive(Debug, Clone, Copy)]
enum At {
    /// In a header, which has a kind and four bytes of the length.
    Header {
        kind: u8,
        length: u32,
        read: u8,
    },
    Body {
        left: u64,
    },
}

impl Default for At {
    fn default() -> Self {
        Self::Header { kind: 0, length: 0, read: 0 }
    }
}

impl MessageMeter {
    /// Follows what has arrived.
    pub(super) fn take(&mut self, mut arrived: &[u8]) -> Result<(), TooLong> {
        while let Some((&byte, rest)) = arrived.split_first() {
            arrived = match self.at {
                At::Header { read: 0, .. } => {
                    self.at = At::Header { kind: byte, length: 0, read: 1 };
                    rest
                }
                At::Header { kind, length, read } => {
                    let length = length << 8 | u32::from(byte);
                    if read < 4 {
                        self.at = At::Header { kind, length, read: read + 1 };
                    } else {
                        self.begins_body(kind, u64::from(length))?;
                    }
                    rest
                }
                At::Body { left } => {
                    let there = arrived.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let left = left - u64::try_from(there).unwrap_or(left);
                    self.at = if left == 0 { At::default() } else { At::Body { left } };
                    &arrived[there..]
                }
            };
        }
        Ok(())
    }

    /// `length` counts its own four bytes.
    fn begins_body(&mut self, kind: u8, length: u64) -> Result<(), TooLong> {
        // Notifications, notices and parameters come by themselves.
        let is_collected = !self.was_ready || !matches!(kind, b'A' | b'N' | b'S');
        let counted = if is_collected { self.bytes.saturating_add(length + 1) } else { length };
        if counted > MOST_BYTES {
            return Err(TooLong);
        }
        if is_collected {
            self.bytes = counted;
        }
        if kind == b'Z' {
            (self.bytes, self.was_ready) = (0, true);
        }
        let left = length.saturating_sub(4);
        self.at = if left == 0 { At::default() } else { At::Body { left } };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u8, body: usize) -> Vec<u8> {
        let length = u32::try_from(body + 4).unwrap().to_be_bytes();
        [&[kind][..], &length, &vec![b'x'; body]].concat()
    }

    fn take(messages: &[(u8, usize)]) -> Result<(), TooLong> {
        let mut meter = MessageMeter::default();
        messages.iter().try_for_each(|(kind, body)| meter.take(&message(*kind, *body)))
    }

    #[test]
    fn row_74_what_no_lock_needs_is_too_long() {
        const MEGABYTE: usize = 1 << 20;
        assert_eq!(MessageMeter::default().take(b"D\x7f\xff\xff\xff"), Err(TooLong));
        assert_eq!(take(&[(b'D', 17 * MEGABYTE)]), Err(TooLong));
        assert_eq!(take(&[(b'D', MEGABYTE); 17]), Err(TooLong));
        assert_eq!(take(&[(b'N', MEGABYTE); 17]), Err(TooLong), "before it is ready");
        take(&[[(b'D', 9 * MEGABYTE), (b'Z', 1)]; 5].concat()).unwrap();
        take(&[&[(b'Z', 1)][..], &[(b'A', MEGABYTE); 40]].concat()).unwrap();
        assert_eq!(take(&[(b'Z', 1), (b'A', 17 * MEGABYTE)]), Err(TooLong));
    }

    proptest! {
        #[test]
        fn messages_are_followed_however_they_arrive(
            messages in prop::collection::vec((b'A'..=b'Z', 0..40_usize), 0..20), cut in 0..400_usize,
        ) {
            let all: Vec<u8> = messages.iter().flat_map(|(kind, body)| message(*kind, *body)).collect();
            let (first, second) = all.split_at(cut.min(all.len()));
            let mut meter = MessageMeter::default();
            meter.take(first).unwrap();
            meter.take(second).unwrap();
            let is_between = matches!(meter.at, At::Header { read: 0, .. });
            prop_assert!(is_between, "{:?}", meter);
            let since = messages.iter().rposition(|(kind, _)| *kind == b'Z').map_or(0, |at| at + 1);
            let after = messages[since..].iter();
            let counted = after.filter(|(kind, _)| since == 0 || !matches!(kind, b'A' | b'N' | b'S'));
            let expected: usize = counted.map(|(_, body)| body + 5).sum();
            prop_assert_eq!(meter.bytes, u64::try_from(expected).unwrap());
        }

        #[test]
        fn any_bytes_are_followed(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            // Too long or not: it never panics.
            let _ = MessageMeter::default().take(&bytes);
        }
    }
}
