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

/// For example `pid 4711 on web1 (nightly backup), for 12s`.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "pid {pid}")?,
            None => f.write_str("an unknown process")?,
        }
        if let Some(host) = &self.host {
            write!(f, " on {host}")?;
        }
        if let Some(label) = &self.label {
            write!(f, " ({label})")?;
        }
        #[expect(clippy::disallowed_methods, reason = "shown to people, not used for leases")]
        let now = SystemTime::now();
        if let Some(held) = self.since.and_then(|since| now.duration_since(since).ok()) {
            write!(f, ", for {:?}", Duration::from_secs(held.as_secs()))?;
        }
        Ok(())
    }
}
