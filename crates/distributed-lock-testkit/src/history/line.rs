//! Events as lines of text, so that workers in other processes can write them to a pipe or file.

use std::time::Duration;

use distributed_lock_core::Mode;

use super::event::{Event, What};

impl Event {
    /// The event as one line without its end: fields between tabs, names and errors escaped.
    #[must_use]
    pub fn to_line(&self) -> String {
        let (at, who, attempt) = (seconds(self.at), escape(&self.who), self.attempt);
        let (lock, what) = (escape(&self.lock), self.what.to_fields());
        format!("{at}\t{who}\t{attempt}\t{lock}\t{what}")
    }

    /// Reads a line, with or without its end.
    ///
    /// # Errors
    /// The line itself and what is wrong with it.
    pub fn parse(line: &str) -> Result<Self, String> {
        let mut fields = line.trim_end_matches(['\r', '\n']).split('\t');
        parse_event(&mut fields).ok_or_else(|| format!("this is not an event: {line:?}"))
    }
}

impl What {
    fn to_fields(&self) -> String {
        match self {
            Self::Invoke { mode, deadline } => {
                let deadline = deadline.map_or_else(|| "never".to_owned(), seconds);
                match mode {
                    Mode::Exclusive => format!("invoke\t{deadline}\texclusive"),
                    Mode::Shared => format!("invoke\t{deadline}\tshared"),
                    Mode::Permit { max } => format!("invoke\t{deadline}\tpermit\t{max}"),
                }
            }
            Self::Acquired { token: None } => "acquired".to_owned(),
            Self::Acquired { token: Some(token) } => format!("acquired\t{token}"),
            Self::Refused => "refused".to_owned(),
            Self::Failed { error } => format!("failed\t{}", escape(error)),
            Self::Wrote { token, accepted: true } => format!("wrote\t{token}\taccepted"),
            Self::Wrote { token, accepted: false } => format!("wrote\t{token}\trefused"),
            Self::ReleaseInvoked => "release-invoked".to_owned(),
            Self::Released => "released".to_owned(),
            Self::ReleaseFailed { error } => format!("release-failed\t{}", escape(error)),
            Self::Lost => "lost".to_owned(),
            Self::Died => "died".to_owned(),
            Self::FaultEndsHold { row } => format!("fault-ends-hold\t{row}"),
            Self::Fault { kind } => format!("fault\t{}", escape(kind)),
        }
    }
}

fn parse_event<'a>(fields: &mut impl Iterator<Item = &'a str>) -> Option<Event> {
    let event = Event {
        at: parse_seconds(fields.next()?)?,
        who: unescape(fields.next()?)?,
        attempt: fields.next()?.parse().ok()?,
        lock: unescape(fields.next()?)?,
        what: parse_what(fields)?,
    };
    fields.next().is_none().then_some(event)
}

fn parse_what<'a>(fields: &mut impl Iterator<Item = &'a str>) -> Option<What> {
    Some(match fields.next()? {
        "invoke" => {
            let deadline = match fields.next()? {
                "never" => None,
                text => Some(parse_seconds(text)?),
            };
            let mode = match fields.next()? {
                "exclusive" => Mode::Exclusive,
                "shared" => Mode::Shared,
                "permit" => Mode::Permit { max: fields.next()?.parse().ok()? },
                _ => return None,
            };
            What::Invoke { mode, deadline }
        }
        "acquired" => match fields.next() {
            Some(token) => What::Acquired { token: Some(token.parse().ok()?) },
            None => What::Acquired { token: None },
        },
        "refused" => What::Refused,
        "failed" => What::Failed { error: unescape(fields.next()?)? },
        "wrote" => {
            let token = fields.next()?.parse().ok()?;
            match fields.next()? {
                "accepted" => What::Wrote { token, accepted: true },
                "refused" => What::Wrote { token, accepted: false },
                _ => return None,
            }
        }
        "release-invoked" => What::ReleaseInvoked,
        "released" => What::Released,
        "release-failed" => What::ReleaseFailed { error: unescape(fields.next()?)? },
        "lost" => What::Lost,
        "died" => What::Died,
        "fault-ends-hold" => What::FaultEndsHold { row: fields.next()?.parse().ok()? },
        "fault" => What::Fault { kind: unescape(fields.next()?)? },
        _ => return None,
    })
}

fn seconds(duration: Duration) -> String {
    format!("{}.{:09}", duration.as_secs(), duration.subsec_nanos())
}

fn parse_seconds(text: &str) -> Option<Duration> {
    let (seconds, nanos) = text.split_once('.')?;
    let nanos = (nanos.len() == 9).then_some(nanos)?.parse().ok()?;
    Some(Duration::new(seconds.parse().ok()?, nanos))
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '\t' => escaped.push_str("\\t"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next()? {
                '\\' => '\\',
                't' => '\t',
                'n' => '\n',
                'r' => '\r',
                _ => return None,
            },
            other => other,
        });
    }
    Some(plain)
}
