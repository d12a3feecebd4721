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
    /// What the holder calls itself.
    pub label: Option<String>,
    /// Since when it holds, by its own clock.
    pub since: Option<SystemTime>,
}

/// For example `pid 4711 on web1 (nightly backup), for 12s`; only the label if that is all there is.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, &self.label) {
            (Some(pid), _) => write!(f, "pid {pid}")?,
            (None, Some(label)) => f.write_str(label)?,
            (None, None) => f.write_str("an unknown process")?,
        }
        if let Some(host) = &self.host {
            write!(f, " on {host}")?;
        }
        if let (Some(_), Some(label)) = (self.pid, &self.label) {
            write!(f, " ({label})")?;
        }
        #[expect(clippy::disallowed_methods, reason = "shown to people, not used for leases")]
        let now = SystemTime::now();
        if let Some(held) = self.since.and_then(|since| now.duration_since(since).ok()) {
            write!(f, ", for {}", in_words(held))?;
        }
        Ok(())
    }
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
        let holder = Holder { pid: Some(4711), host, label: Some("backup".into()), since: None };
        assert_eq!(holder.to_string(), "pid 4711 on web1 (backup)");
    }

    #[test]
    fn durations_are_for_people() {
        let words = |seconds| in_words(Duration::from_secs(seconds));
        assert_eq!([words(0), words(59), words(61)], ["0s", "59s", "1m 1s"]);
        assert_eq!([words(3_660), words(90_000)], ["1h 1m", "1d 1h"]);
    }
}
