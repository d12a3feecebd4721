//! The options of a URL: its query parameters, each known, each once.

use std::time::Duration;

use distributed_lock_core::error::{LockError, LockResult};

pub(super) struct UrlOptions {
    given: Vec<(String, String)>,
    /// What was asked for, to say so when something else was given.
    known: Vec<&'static str>,
}

impl UrlOptions {
    /// Takes a query apart.
    pub(super) fn of(query: &str) -> LockResult<Self> {
        let mut given: Vec<(String, String)> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if given.iter().any(|(other, _)| *other == name) {
                return Err(LockError::Config(format!("option {} is given twice", shown(&name))));
            }
            given.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self { given, known: Vec::new() })
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

    /// What nobody asked for, for somebody else.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(dead_code, reason = "only PostgreSQL's URLs have options of others")
    )]
    pub(super) fn rest(self) -> LockResult<Vec<(String, String)>> {
        match self.given.iter().find(|(name, _)| !is_name(name)) {
            None => Ok(self.given),
            Some(_) => self.finish().map(|()| Vec::new()),
        }
    }

    /// Refuses what nobody asked for.
    pub(super) fn finish(self) -> LockResult<()> {
        let unknown = self.given.iter().find(|(name, _)| !is_name(name)).or(self.given.first());
        match unknown {
            None => Ok(()),
            Some((name, _)) => Err(LockError::Config(format!(
                "unknown option {}; known here are {}",
                shown(name),
                self.known()
            ))),
        }
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
            None => Err(LockError::Config(format!("option {name}: {text:?} is not {wanted}"))),
        }
    }
}

/// The name of an option for an error. What does not look like a name may be a secret that lost its
/// place.
fn shown(name: &str) -> &str {
    if is_name(name) { name } else { "(not shown: it is not a name)" }
}

fn is_name(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    !text.is_empty() && text.len() <= 40 && text.chars().all(is_word)
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
