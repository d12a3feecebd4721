//! What `dlock` and its reaper tell each other, in messages of eight bytes.
//!
//! Each learns of the other's death by the end of the stream.

use std::time::Duration;

use rustix::time::ClockId;

use super::tree::Status;

/// The length of every message.
pub(crate) const LENGTH: usize = 8;

/// What the reaper counts by; it goes on while the machine is suspended.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

/// Until when the command may run, as the clock that runs through a suspension counts.
///
/// The reaper ends the command then, unless it got a later one: `dlock` may be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline(Duration);

impl Deadline {
    /// So long from now.
    pub(crate) fn after(left: Duration) -> Self {
        let now = rustix::time::clock_gettime(CLOCK);
        let now = Duration::try_from(now).unwrap_or_default();
        Self(now.saturating_add(left))
    }

    pub(crate) fn encode(self) -> [u8; LENGTH] {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX).to_ne_bytes()
    }

    pub(crate) fn decode(bytes: [u8; LENGTH]) -> Self {
        Self(Duration::from_nanos(u64::from_ne_bytes(bytes)))
    }

    /// The time on the clock.
    pub(crate) fn on_clock(self) -> Duration {
        self.0
    }
}

/// Tells the reaper that its report of the command's end was read: its work is done.
pub(crate) const READ: [u8; LENGTH] = [0xff; LENGTH];

/// What the reaper reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// The command runs as this process.
    Started(i32),
    /// The command cannot be started, for this error of the system.
    NotStarted(i32),
    /// The command has ended.
    Ended(Status),
    /// The deadline passed, so the command was killed.
    Expired,
}

impl Report {
    pub(crate) fn encode(self) -> [u8; LENGTH] {
        let (kind, value) = match self {
            Self::Started(pid) => (0_i32, pid),
            Self::NotStarted(error) => (1, error),
            Self::Ended(Status::Code(code)) => (2, code),
            Self::Ended(Status::Signal(signal)) => (3, signal),
            Self::Expired => (4, 0),
        };
        let mut bytes = [0; LENGTH];
        bytes[..4].copy_from_slice(&kind.to_ne_bytes());
        bytes[4..].copy_from_slice(&value.to_ne_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: [u8; LENGTH]) -> Option<Self> {
        let [a, b, c, d, e, f, g, h] = bytes;
        let value = i32::from_ne_bytes([e, f, g, h]);
        match i32::from_ne_bytes([a, b, c, d]) {
            0 => Some(Self::Started(value)),
            1 => Some(Self::NotStarted(value)),
            2 => Some(Self::Ended(Status::Code(value))),
            3 => Some(Self::Ended(Status::Signal(value))),
            4 => Some(Self::Expired),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_read() {
        for report in [
            Report::Started(4711),
            Report::NotStarted(2),
            Report::Ended(Status::Code(255)),
            Report::Ended(Status::Signal(9)),
            Report::Expired,
        ] {
            assert_eq!(Report::decode(report.encode()), Some(report));
        }
        assert_eq!(Report::decode([0xff; LENGTH]), None);
        let deadline = Deadline::after(Duration::from_secs(3));
        assert_eq!(Deadline::decode(deadline.encode()), deadline);
    }
}
