//! Who holds a lock, for people who wait for it.

use std::fmt;
use std::time::{Duration, SystemTime};

/// Who holds a lock, as far as the backend knows. It may have changed since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The process id on its host.
    pub pid: Option<u32>,
    /// The host's name.
    pub host: Option<String>,
    /// The name of its user.
    pub user: Option<String>,
    /// The program.
    pub command: Option<String>,
    /// What the holder calls itself.
    pub label: Option<String>,
    /// Since when it holds, by its own clock.
    pub since: Option<SystemTime>,
}

/// For example `pid 4711 on web1 (nightly backup), for 12s`, or `pid 4711 on web1 (anna: backup)` without a
/// label; only what is in the brackets if that is all there is.
/// Control characters, and those that reorder or hide text, are escaped.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let purpose = self.purpose();
        match (self.pid, &purpose) {
            (Some(pid), _) => write!(f, "pid {pid}")?,
            (None, Some(purpose)) => shown(purpose, f)?,
            (None, None) => f.write_str("an unknown process")?,
        }
        if let Some(host) = &self.host {
            f.write_str(" on ")?;
            shown(host, f)?;
        }
        if let (Some(_), Some(purpose)) = (self.pid, &purpose) {
            f.write_str(" (")?;
            shown(purpose, f)?;
            f.write_str(")")?;
        }
        #[expect(clippy::disallowed_methods, reason = "shown to people, not used for leases")]
        let now = SystemTime::now();
        if let Some(held) = self.since.and_then(|since| now.duration_since(since).ok()) {
            write!(f, ", for {}", in_words(held))?;
        }
        Ok(())
    }
}

impl Holder {
    /// What it holds the lock for: the label, or who runs what.
    fn purpose(&self) -> Option<String> {
        match (&self.label, &self.user, &self.command) {
            (Some(label), ..) => Some(label.clone()),
            (None, Some(user), Some(command)) => Some(format!("{user}: {command}")),
            (None, user, command) => command.clone().or_else(|| user.clone()),
        }
    }
}

/// Hosts and labels come from others: what a terminal would obey, or what reorders or hides text, is
/// shown as in a string literal.
fn shown(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for character in text.chars() {
        match character {
            '"' | '\'' | '\\' => write!(f, "{character}")?,
            // Behind a letter, accents need no escape.
            _ => {
                f.write_str(&String::from_iter(['x', character]).escape_debug().to_string()[1..])?
            }
        }
    }
    Ok(())
}

/// Two units are enough for people.
fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m {}s", seconds % 60),
        (..24, _) => format!("{hours}h {}m", minutes % 60),
        _ => format!("{}d {}h", hours / 24, hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_told() {
        assert_eq!(Holder::default().to_string(), "an unknown process");
        let holder = Holder { label: Some("backup".into()), ..Holder::default() };
        assert_eq!(holder.to_string(), "backup");
        let host = Some("web1".to_owned());
        let (user, command) = (Some("anna".to_owned()), Some("tar".to_owned()));
        let holder = Holder { pid: Some(4711), host, user, command, ..Holder::default() };
        assert_eq!(holder.to_string(), "pid 4711 on web1 (anna: tar)");
        let holder = Holder { user: None, ..holder };
        assert_eq!(holder.to_string(), "pid 4711 on web1 (tar)");
        let holder = Holder { label: Some("backup".into()), ..holder };
        assert_eq!(holder.to_string(), "pid 4711 on web1 (backup)");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_told() {
        let label = |text: &str| Holder { label: Some(text.into()), ..Holder::default() };
        for hostile in [
            '\x1b',
            '\n',
            '\u{9b}',
            '\u{202e}',
            '\u{2066}',
            '\u{200f}',
            '\u{feff}',
            '\u{2028}',
            '\u{e0041}',
        ] {
            let told = label(&format!("a{hostile}b")).to_string();
            assert!(!told.contains(hostile) && told.starts_with("a\\"), "{told}");
            let host = Holder { pid: Some(1), host: Some(hostile.into()), ..Holder::default() };
            assert!(!host.to_string().contains(hostile));
        }
        for plain in ["naïve", "e\u{301}té", "日本", "it's \"x\" \\", "שלום"] {
            assert_eq!(label(plain).to_string(), plain);
        }
    }

    #[test]
    fn durations_are_for_people() {
        let words = |seconds| in_words(Duration::from_secs(seconds));
        assert_eq!([words(0), words(59), words(61)], ["0s", "59s", "1m 1s"]);
        assert_eq!([words(3_660), words(90_000)], ["1h 1m", "1d 1h"]);
    }
}
