//! How long a reply is, measured while it arrives: a pure state machine over the protocol's framing.

/// Above anything that a lock's request is answered with: a semaphore has at most 65,536 holders.
const MOST_BYTES: u64 = 16 * 1024 * 1024;
const MOST_ELEMENTS: u64 = 1 << 18;
/// Of a line, which is a number, a status or an error: the client library looks for its end from its
/// beginning again and again.
const MOST_OF_A_LINE: u64 = 1 << 16;

/// A reply is longer than any that a lock needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server's reply is longer than any reply to a request for a lock; is it a Redis server?"
)]
pub(crate) struct TooLong;

/// Follows the frames of RESP2 and RESP3.
#[derive(Debug)]
pub(crate) struct ReplyMeter {
    at: At,
    /// Of the reply under way.
    bytes: u64,
    /// Of the reply under way: those that were announced.
    elements: u64,
    /// Of those: the ones that are still to come.
    missing: u64,
    /// Of the line under way.
    line: u64,
}

#[derive(Debug, Clone, Copy)]
enum At {
    Kind,
    /// In the line behind the kind, with the number that it has so far.
    Line {
        kind: u8,
        number: u64,
        is_negative: bool,
    },
    /// In the bytes of a string and the end of their line.
    Body {
        left: u64,
    },
}

impl Default for ReplyMeter {
    fn default() -> Self {
        Self { at: At::Kind, bytes: 0, elements: 1, missing: 1, line: 0 }
    }
}

impl ReplyMeter {
    /// Follows what has arrived.
    pub(crate) fn take(&mut self, mut arrived: &[u8]) -> Result<(), TooLong> {
        while let Some((&byte, rest)) = arrived.split_first() {
            arrived = rest;
            self.bytes += 1;
            self.line += 1;
            match self.at {
                At::Kind => {
                    self.at = At::Line { kind: byte, number: 0, is_negative: false };
                    self.line = 0;
                }
                At::Line { kind, number, is_negative } => match byte {
                    b'\n' => self.ends_line(kind, (!is_negative).then_some(number))?,
                    b'-' => self.at = At::Line { kind, number, is_negative: true },
                    b'0'..=b'9' => {
                        let number = number.saturating_mul(10).saturating_add((byte - b'0').into());
                        self.at = At::Line { kind, number, is_negative };
                    }
                    _ => {}
                },
                At::Body { left: 1 } => self.ends_element(),
                At::Body { left } => {
                    // All but the last byte, which ends it.
                    let more = rest.len().min(usize::try_from(left - 2).unwrap_or(usize::MAX));
                    arrived = &rest[more..];
                    let more = u64::try_from(more).unwrap_or(u64::MAX);
                    self.bytes = self.bytes.saturating_add(more);
                    self.at = At::Body { left: left - 1 - more };
                }
            }
            let is_line = matches!(self.at, At::Line { .. });
            if self.bytes > MOST_BYTES || is_line && self.line > MOST_OF_A_LINE {
                return Err(TooLong);
            }
        }
        Ok(())
    }

    /// A negative number is null.
    fn ends_line(&mut self, kind: u8, number: Option<u64>) -> Result<(), TooLong> {
        match (kind, number) {
            (b'$' | b'!' | b'=', Some(length)) if length > MOST_BYTES => return Err(TooLong),
            // The end of its line follows an empty string, too, but not null.
            (b'$' | b'!' | b'=', Some(length)) => {
                self.at = At::Body { left: length + 2 };
                return Ok(());
            }
            (b'*' | b'~' | b'>', Some(count)) => self.announce(count)?,
            (b'%', Some(count)) => self.announce(count.saturating_mul(2))?,
            // Attributes stand before the element that they belong to.
            (b'|', Some(count)) => self.announce(count.saturating_mul(2).saturating_add(1))?,
            _ => {}
        }
        self.ends_element();
        Ok(())
    }

    fn announce(&mut self, elements: u64) -> Result<(), TooLong> {
        self.elements = self.elements.saturating_add(elements);
        self.missing = self.missing.saturating_add(elements);
        if self.elements > MOST_ELEMENTS { Err(TooLong) } else { Ok(()) }
    }

    fn ends_element(&mut self) {
        self.at = At::Kind;
        self.missing -= 1;
        if self.missing == 0 {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redis::Value;

    use super::*;

    fn take(text: &str) -> Result<ReplyMeter, TooLong> {
        let mut meter = ReplyMeter::default();
        meter.take(text.as_bytes())?;
        Ok(meter)
    }

    #[test]
    fn a_reply_begins_where_the_last_one_ended() {
        for reply in [
            "+OK\r\n",
            "-ERR no\r\n",
            ":-12\r\n",
            "$5\r\nhello\r\n",
            "$0\r\n\r\n",
            "$-1\r\n",
            "*-1\r\n",
            "*0\r\n",
            "*2\r\n*1\r\n:1\r\n$1\r\na\r\n",
            "%1\r\n+a\r\n~2\r\n_\r\n#t\r\n",
            "|1\r\n+ttl\r\n:3\r\n+OK\r\n",
            ">3\r\n+message\r\n+a\r\n$2\r\n\r\n\r\n",
            "=8\r\ntxt:some\r\n",
            ",1.5e-7\r\n",
            "(3492890328409238509324850943850943825024385\r\n",
        ] {
            let meter = take(reply).unwrap();
            assert!(matches!(meter.at, At::Kind) && meter.bytes == 0, "{reply:?}: {meter:?}");
            let meter = take(&reply[..reply.len() - 1]).unwrap();
            assert!(meter.bytes > 0, "{reply:?}: {meter:?}");
        }
    }

    #[test]
    fn row_74_what_no_lock_needs_is_too_long() {
        let long = "x".repeat(17 << 20);
        let nested = "*1\r\n".repeat(1 << 19);
        let announced = format!("*{}\r\n", u64::MAX);
        for reply in [
            "$2000000000\r\n",
            "*2000000000\r\n",
            "%200000\r\n",
            &announced,
            &nested,
            &format!("+{long}"),
        ] {
            assert_eq!(take(reply).map(drop), Err(TooLong), "{}", &reply[..10.min(reply.len())]);
        }
        // As many small ones as there may be.
        take(&"+OK\r\n".repeat(4 << 20)).unwrap();
        take("*131072\r\n").unwrap();
    }

    fn reply() -> impl Strategy<Value = String> {
        let one = prop_oneof![
            "[a-z ]{0,9}".prop_map(|text| format!("+{text}\r\n")),
            any::<i64>().prop_map(|number| format!(":{number}\r\n")),
            "[a-z\r\n]{0,30}".prop_map(|text| format!("${}\r\n{text}\r\n", text.len())),
            Just("$-1\r\n".to_owned()),
        ];
        one.prop_recursive(4, 60, 8, |inner| {
            prop::collection::vec(inner, 0..8)
                .prop_map(|all| format!("*{}\r\n{}", all.len(), all.concat()))
        })
    }

    proptest! {
        /// It sees the same ends as the client library, however the bytes arrive.
        #[test]
        fn it_agrees_with_the_client_library(text in reply(), cut in 0..200_usize) {
            let parsed: Value = redis::parse_redis_value(text.as_bytes()).unwrap();
            prop_assert!(!matches!(parsed, Value::ServerError(_)));
            let mut meter = ReplyMeter::default();
            let (first, second) = text.as_bytes().split_at(cut.min(text.len()));
            meter.take(first).unwrap();
            meter.take(second).unwrap();
            prop_assert!(matches!(meter.at, At::Kind) && meter.bytes == 0, "{:?}", meter);
        }

        #[test]
        fn any_bytes_are_followed(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            // Too long or not: it never panics.
            let _ = ReplyMeter::default().take(&bytes);
        }
    }
}
