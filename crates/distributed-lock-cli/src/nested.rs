//! Locks that this process runs under, so that it does not wait for itself.

use std::path::Path;

use distributed_lock::Mode;
use nix::unistd::Pid;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Lists the locks that the command runs under, one a line.
pub(crate) const VARIABLE: &str = "DISTRIBUTED_LOCK_HELD";

/// A lock that a `dlock` holds, or wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pid: i32,
    /// When that process started, as the system counts; with the number this is one process only.
    started: String,
    mode: String,
    service: String,
    name: String,
}

impl Held {
    pub(crate) fn by_this_process(service: &str, name: &str, mode: Mode) -> Self {
        let pid = Pid::this();
        let mode = match mode {
            Mode::Exclusive => "exclusive".to_owned(),
            Mode::Shared => "shared".to_owned(),
            Mode::Permit { max } => max.to_string(),
        };
        let (service, name) = (service.to_owned(), name.to_owned());
        Self { pid: pid.as_raw(), started: started(pid), mode, service, name }
    }

    fn encode(&self) -> String {
        let text = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let (service, name) = (text(&self.service), text(&self.name));
        format!("{} {} {} {service} {name}", self.pid, self.started, self.mode)
    }

    fn decode(line: &str) -> Option<Self> {
        let mut fields = line.split(' ');
        let mut next = || fields.next();
        let text = |text| percent_decode_str(text).decode_utf8().ok().map(Into::into);
        Some(Self {
            pid: next()?.parse().ok()?,
            started: next()?.to_owned(),
            mode: next()?.to_owned(),
            service: text(next()?)?,
            name: text(next()?)?,
        })
    }

    /// Whether that process still runs, and so holds it.
    fn is_held(&self) -> bool {
        let pid = Pid::from_raw(self.pid);
        nix::sys::signal::kill(pid, None) != Err(nix::errno::Errno::ESRCH)
            && started(pid) == self.started
    }
}

/// The process that holds what `wanted` needs, and waits for this one.
pub(crate) fn conflict(wanted: &Held) -> Option<Pid> {
    let held = std::env::var(VARIABLE).unwrap_or_default();
    let held: Vec<_> = held.lines().filter_map(Held::decode).filter(Held::is_held).collect();
    conflict_with(&held, wanted)
}

fn conflict_with(held: &[Held], wanted: &Held) -> Option<Pid> {
    let same = |held: &&Held| (&held.service, &held.name) == (&wanted.service, &wanted.name);
    let mut same = held.iter().filter(same);
    let pid = |held: &Held| Pid::from_raw(held.pid);
    if let Ok(permits) = wanted.mode.parse::<usize>() {
        let holders: Vec<_> = same.filter(|held| held.mode.parse::<usize>().is_ok()).collect();
        return (holders.len() >= permits).then(|| holders.last().map(|held| pid(held)))?;
    }
    same.find(|held| match (held.mode.as_str(), wanted.mode.as_str()) {
        ("shared", "shared") => false,
        ("exclusive" | "shared", _) => true,
        _ => false,
    })
    .map(pid)
}

/// The variable's value for a command that runs under this lock, too.
pub(crate) fn with(held: Held) -> String {
    let inherited = std::env::var(VARIABLE).unwrap_or_default();
    let outer = inherited.lines().filter_map(Held::decode).filter(Held::is_held);
    outer.chain([held]).map(|held| held.encode()).collect::<Vec<_>>().join("\n")
}

/// When a process started; `-` where the system does not tell.
fn started(pid: Pid) -> String {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    let stat = stat.unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    fields.split(' ').nth(19).unwrap_or("-").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(name: &str, mode: Mode) -> Held {
        Held::by_this_process("file:///a b", name, mode)
    }

    #[test]
    fn what_is_written_is_read() {
        let held = held("new\nline and %", Mode::Permit { max: 3 });
        assert_eq!(Held::decode(&held.encode()), Some(held.clone()));
        assert!(held.is_held());
        assert!(!Held { started: "1".into(), ..held }.is_held(), "another process");
        assert_eq!(Held::decode("nonsense"), None);
    }

    #[test]
    fn modes_conflict_as_locks_do() {
        let permit = |max| Mode::Permit { max };
        let conflicts = |outer: &[Mode], inner| {
            let outer: Vec<_> = outer.iter().map(|mode| held("x", *mode)).collect();
            conflict_with(&outer, &held("x", inner)).is_some()
        };
        assert!(conflicts(&[Mode::Exclusive], Mode::Exclusive));
        assert!(conflicts(&[Mode::Exclusive], Mode::Shared));
        assert!(conflicts(&[Mode::Shared], Mode::Exclusive));
        assert!(!conflicts(&[Mode::Shared], Mode::Shared));
        assert!(!conflicts(&[Mode::Exclusive], permit(1)), "another lock");
        assert!(!conflicts(&[permit(1)], Mode::Exclusive));
        assert!(conflicts(&[permit(1)], permit(1)));
        assert!(!conflicts(&[permit(2)], permit(2)));
        assert!(conflicts(&[permit(2), permit(2)], permit(2)));
        let others = [held("y", Mode::Exclusive)];
        assert_eq!(conflict_with(&others, &held("x", Mode::Exclusive)), None);
    }
}
