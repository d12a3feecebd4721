//! Messages in the protocol of PostgreSQL: a kind, a length, and so many bytes.

/// What asks for encryption: another beginning follows if the server does not want it.
const ENCRYPTION: [u32; 2] = [80_877_103, 80_877_104];

/// Where we are in what a client sends.
#[derive(Debug)]
pub(super) struct Messages {
    state: State,
    /// Whether messages have a kind: that before the first does not.
    is_started: bool,
    /// The last four bytes, as a number.
    recent: u32,
}

#[derive(Debug)]
enum State {
    /// A kind comes next.
    Kind,
    /// In the length, so many bytes before its end.
    Length(u32),
    /// In the number that the beginning of a session has, with so many bytes after it.
    Code { left: u32, after: u32 },
    /// In a message, so many bytes before its end.
    Inside(u32),
    /// What follows is encrypted.
    Encrypted,
}

impl Default for Messages {
    fn default() -> Self {
        Self { state: State::Length(4), is_started: false, recent: 0 }
    }
}

impl Messages {
    /// Takes the next byte; whether a request begins with it.
    pub(super) fn begins(&mut self, byte: u8) -> bool {
        let begins = matches!(self.state, State::Kind) && matches!(byte, b'Q' | b'E');
        self.recent = self.recent << 8 | u32::from(byte);
        self.state = match self.state {
            State::Kind => State::Length(4),
            State::Length(4) if !self.is_started && byte == 0x16 => State::Encrypted,
            // The length counts itself.
            State::Length(1) if self.is_started => self.inside(self.recent.saturating_sub(4)),
            State::Length(1) => State::Code { left: 4, after: self.recent.saturating_sub(8) },
            State::Length(left) => State::Length(left - 1),
            State::Code { left: 1, after } => {
                self.is_started = !ENCRYPTION.contains(&self.recent);
                self.inside(after)
            }
            State::Code { left, after } => State::Code { left: left - 1, after },
            State::Inside(left) => self.inside(left - 1),
            State::Encrypted => State::Encrypted,
        };
        begins
    }

    fn inside(&self, left: u32) -> State {
        match left {
            0 if self.is_started => State::Kind,
            0 => State::Length(4),
            _ => State::Inside(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::requests::Requests;

    const START: &[u8] = b"\0\0\0\x0c\0\x03\0\0u\0E\0";
    const ASKS_FOR_ENCRYPTION: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";

    /// Whatever the parts it comes in.
    fn count(sent: &[&[u8]]) -> usize {
        let sent = sent.concat();
        let at_once = Requests::default().count(&sent);
        let mut requests = Requests::default();
        let bytewise: usize = sent.chunks(1).map(|byte| requests.count(byte)).sum();
        assert_eq!(at_once, bytewise);
        at_once
    }

    #[test]
    fn queries_and_executions_are_counted_and_what_is_in_messages_is_not() {
        assert_eq!(count(&[START]), 0);
        assert_eq!(count(&[START, b"Q\0\0\0\x07QE\0"]), 1);
        let prepared: &[u8] = b"B\0\0\0\x06QEE\0\0\0\x05\0S\0\0\0\x04";
        assert_eq!(count(&[START, b"P\0\0\0\x06QE", prepared, prepared]), 2);
    }

    #[test]
    fn a_refused_wish_for_encryption_is_no_message() {
        assert_eq!(count(&[ASKS_FOR_ENCRYPTION, START, b"Q\0\0\0\x05\0"]), 1);
    }

    #[test]
    fn what_is_encrypted_is_not_counted() {
        assert_eq!(count(&[ASKS_FOR_ENCRYPTION, b"\x16\x03\x01\0\x04QQQQ"]), 0);
    }
}
