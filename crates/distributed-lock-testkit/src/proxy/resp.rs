//! Commands in the protocol of Redis: arrays of bulk strings, or lines.

/// Where we are in what a client sends.
#[derive(Debug, Default)]
pub(super) struct Commands {
    state: State,
    /// Bulk strings that the command still has.
    arguments: u64,
}

#[derive(Debug, Default)]
enum State {
    /// A command comes next.
    #[default]
    Start,
    /// In the number after `*`.
    Count(u64),
    /// `$` comes next.
    Bulk,
    /// In the number after `$`.
    Length(u64),
    /// In a string, so many bytes before its end with the end of line.
    Inside(u64),
    /// In a command that is a line.
    Line,
}

impl Commands {
    /// Takes the next byte; whether a command begins with it.
    pub(super) fn begins(&mut self, byte: u8) -> bool {
        let mut begins = false;
        self.state = match self.state {
            State::Start => match byte {
                b'*' => {
                    begins = true;
                    State::Count(0)
                }
                // An empty line is none.
                b'\r' | b'\n' => State::Start,
                _ => {
                    begins = true;
                    State::Line
                }
            },
            State::Count(number) if byte == b'\n' => {
                self.arguments = number;
                self.next_argument()
            }
            State::Count(number) => State::Count(with_digit(number, byte)),
            State::Bulk => State::Length(0),
            State::Length(number) if byte == b'\n' => State::Inside(number + 2),
            State::Length(number) => State::Length(with_digit(number, byte)),
            State::Inside(1) => {
                self.arguments -= 1;
                self.next_argument()
            }
            State::Inside(left) => State::Inside(left - 1),
            State::Line if byte == b'\n' => State::Start,
            State::Line => State::Line,
        };
        begins
    }

    fn next_argument(&self) -> State {
        if self.arguments == 0 { State::Start } else { State::Bulk }
    }
}

/// The number with one more digit; what is none, the end of line, changes nothing.
fn with_digit(number: u64, byte: u8) -> u64 {
    match char::from(byte).to_digit(10) {
        Some(digit) => number.saturating_mul(10).saturating_add(u64::from(digit)),
        None => number,
    }
}

#[cfg(test)]
mod tests {
    use super::super::requests::Requests;

    /// Whatever the parts it comes in.
    fn count(sent: &[u8]) -> usize {
        let at_once = Requests::default().count(sent);
        let mut requests = Requests::default();
        let bytewise: usize = sent.chunks(1).map(|byte| requests.count(byte)).sum();
        assert_eq!(at_once, bytewise);
        at_once
    }

    #[test]
    fn commands_are_counted_and_what_is_in_strings_is_not() {
        assert_eq!(count(b"*1\r\n$4\r\nPING\r\n"), 1);
        assert_eq!(count(b"*2\r\n$3\r\nGET\r\n$9\r\n*1\r\n$0\r\n\n\r\n*1\r\n$4\r\nPING\r\n"), 2);
        assert_eq!(count(b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n*1\r\n$4\r\nPI"), 2);
    }

    #[test]
    fn commands_that_are_lines_are_counted() {
        assert_eq!(count(b"PING\r\n\r\nGET a\r\n*1\r\n$4\r\nPING\r\n"), 3);
    }
}
