//! The options of a URL: its query parameters, each known, each once.

use std::time::Duration;

use distributed_lock_core::error::{LockError, LockResult};
use percent_encoding::percent_decode_str;

pub(super) struct UrlOptions {
    given: Vec<(String, String)>,
    /// What was asked for, to say so when something else was given.
    known: Vec<&'static str>,
    /// Whether names may be shown: behind an `@` that is not encoded, a "name" may be part of a password
    /// that has a `?`.
    names_are_shown: bool,
}

impl UrlOptions {
    /// Takes a query apart and decodes it, once.
    pub(super) fn of(query: &str) -> LockResult<Self> {
        let mut options =
            Self { given: Vec::new(), known: Vec::new(), names_are_shown: !query.contains('@') };
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (decoded(name)?, value),
                None => {
                    let name = decoded(option)?;
                    let name = options.shown(&name);
                    return config(format!("option {name} has no value; write name=value"));
                }
            };
            if options.given.iter().any(|(other, _)| *other == name) {
                return config(format!("option {} is given twice", options.shown(&name)));
            }
            options.given.push((name, decoded(value)?));
        }
        Ok(options)
    }

    /// The value of an option, if it was given.
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        let index = self.given.iter().position(|(given, _)| given == name)?;
        Some(self.given.swap_remove(index).1)
    }

    pub(super) fn switch(&mut self, name: &'static str) -> LockResult<Option<bool>> {
        self.parsed(name, "true or false", |text| text.parse().ok())
    }

    #[cfg_attr(
        not(any(feature = "file", test)),
        expect(dead_code, reason = "only files have modes")
    )]
    pub(super) fn octal(&mut self, name: &'static str) -> LockResult<Option<u32>> {
        self.parsed(name, "an octal number such as 660", |text| u32::from_str_radix(text, 8).ok())
    }

    #[cfg_attr(
        not(any(feature = "postgres", test)),
        expect(dead_code, reason = "only servers have limits")
    )]
    pub(super) fn number(&mut self, name: &'static str) -> LockResult<Option<usize>> {
        self.parsed(name, "a number", |text| text.parse().ok())
    }

    pub(super) fn duration(&mut self, name: &'static str) -> LockResult<Option<Duration>> {
        let wanted = "a duration such as 500ms, 30s or 2m";
        self.parsed(name, wanted, |text| humantime::parse_duration(text).ok())
    }

    /// What was asked for.
    pub(super) fn known(&self) -> String {
        self.known.join(", ")
    }

    /// The options that were not asked for, for the client library.
    #[cfg_attr(
        not(any(feature = "postgres", test)),
        expect(dead_code, reason = "only PostgreSQL's URLs have options of others")
    )]
    pub(super) fn rest(self) -> LockResult<Vec<(String, String)>> {
        match self.given.iter().find(|(name, _)| !self.is_shown(name)) {
            None => Ok(self.given),
            Some(_) => self.finish().map(|()| Vec::new()),
        }
    }

    /// Refuses the options that were not asked for.
    pub(super) fn finish(self) -> LockResult<()> {
        match self.unread() {
            None => Ok(()),
            Some(name) => config(format!("unknown option {name}; known here are {}", self.known())),
        }
    }

    /// One of the options that were not asked for, as an error shows it.
    pub(super) fn unread(&self) -> Option<&str> {
        let hidden = self.given.iter().find(|(name, _)| !self.is_shown(name));
        hidden.or(self.given.first()).map(|(name, _)| self.shown(name))
    }

    fn is_shown(&self, name: &str) -> bool {
        self.names_are_shown && is_name(name)
    }

    /// The name of an option for an error.
    fn shown<'a>(&self, name: &'a str) -> &'a str {
        if self.is_shown(name) { name } else { "(not shown: it may be part of a password)" }
    }

    pub(super) fn parsed<T>(
        &mut self,
        name: &'static str,
        wanted: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> LockResult<Option<T>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match parse(&text) {
            Some(value) => Ok(Some(value)),
            // The value may be part of a password that has a `?`.
            None => config(format!("option {name} must be {wanted}")),
        }
    }
}

/// Percent-decodes, once. A `+` is a plus.
fn decoded(text: &str) -> LockResult<String> {
    let is_hexadecimal = |code: &str| code.get(..2).is_some_and(|two| two.chars().all(is_digit));
    if !text.split('%').skip(1).all(is_hexadecimal) {
        return config("write a % in an option of a URL as %25");
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => config("an option of the URL is not UTF-8"),
    }
}

fn is_digit(character: char) -> bool {
    character.is_ascii_hexdigit()
}

/// What does not look like a name may be a secret in the wrong position.
fn is_name(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    !text.is_empty() && text.len() <= 40 && text.chars().all(is_word)
}

fn config<T>(reason: impl Into<String>) -> LockResult<T> {
    Err(LockError::Config(reason.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(query: &str) -> LockResult<UrlOptions> {
        UrlOptions::of(query)
    }

    fn refusal<T>(result: LockResult<T>) -> String {
        match result {
            Err(LockError::Config(reason)) => reason,
            Err(error) => panic!("not a configuration error: {error:?}"),
            Ok(_) => panic!("not refused"),
        }
    }

    #[test]
    fn values_are_parsed_and_percent_decoded() {
        let mut options = options("label=a%20b&on=true&mode=660&lease=1m%2030s&count=7").unwrap();
        assert_eq!(options.text("label").as_deref(), Some("a b"));
        assert_eq!(options.switch("on").unwrap(), Some(true));
        assert_eq!(options.octal("mode").unwrap(), Some(0o660));
        assert_eq!(options.duration("lease").unwrap(), Some(Duration::from_secs(90)));
        assert_eq!(options.number("count").unwrap(), Some(7));
        assert_eq!(options.text("absent"), None);
        options.finish().unwrap();
    }

    #[test]
    fn row_62_values_are_decoded_once_and_strictly() {
        let mut options = options("label=a+b%2Bc%2525&empty=").unwrap();
        assert_eq!(options.text("label").as_deref(), Some("a+b+c%25"));
        assert_eq!(options.text("empty").as_deref(), Some(""));
        options.finish().unwrap();
        for malformed in ["label=100%", "label=%z1", "label=%e", "l%=1", "label=%c3%bc%ff"] {
            assert!(refusal(UrlOptions::of(malformed)).contains(['%', 'U']), "{malformed}");
        }
        assert!(refusal(UrlOptions::of("expiry")).contains("option expiry has no value"));
    }

    #[test]
    fn row_62_nothing_that_may_be_part_of_a_password_is_shown() {
        // As in postgres://user:pa?max_held=hunter2@host.
        let refusals = [
            refusal(options("max_held=hunter2@host/db").unwrap().number("max_held")),
            refusal(options("hunter2=hunter2@host/db").unwrap().finish()),
            refusal(options("hunter2@host/db").map(drop)),
            refusal(options("hunter2=1@h&hunter2=2").map(drop)),
            refusal(options("a=1&hunter2+x=1").unwrap().finish()),
            refusal(options("hunter2=1@h").unwrap().rest()),
        ];
        for said in refusals {
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn refusals_say_what_would_work() {
        assert!(refusal(options("a=1&a=2")).contains("twice"));
        assert!(refusal(options("on=yes").unwrap().switch("on")).contains("true or false"));
        assert!(refusal(options("mode=9").unwrap().octal("mode")).contains("octal"));
        assert!(refusal(options("lease=soon").unwrap().duration("lease")).contains("30s"));
        let mut options = options("lesae=1s").unwrap();
        options.text("lease");
        let reason = refusal(options.finish());
        assert!(reason.contains("lesae") && reason.contains("known here are lease"), "{reason}");
    }
}
