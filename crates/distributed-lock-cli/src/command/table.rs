//! The system's processes, and which of them descend from this one.

use std::collections::HashMap;

use nix::unistd::Pid;

/// A process as the system lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    parent: Pid,
    pub(crate) group: Pid,
    /// The program's name; empty where the system does not tell.
    pub(crate) name: String,
    /// It has ended and only its status is left.
    pub(crate) ended: bool,
}

impl Process {
    /// A process of which only the id is known.
    pub(crate) fn unnamed(pid: Pid, parent: Pid) -> Self {
        Self { pid, parent, group: Pid::from_raw(0), name: String::new(), ended: false }
    }
}

/// Every process below this one, parents first. `None` if the system does not list its processes.
pub(crate) fn below(root: Pid) -> Option<Vec<Process>> {
    let mut children: HashMap<Pid, Vec<Process>> = HashMap::new();
    for process in all()? {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = children.remove(&root).unwrap_or_default();
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|process| process.pid) {
        found.extend(children.remove(&parent).unwrap_or_default());
        next += 1;
    }
    Some(found)
}

/// The parent of a process.
#[cfg(target_os = "linux")]
pub(crate) fn parent(pid: Pid) -> Option<Pid> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?).map(|process| process.parent)
}

#[cfg(target_os = "linux")]
fn all() -> Option<Vec<Process>> {
    let entries = std::fs::read_dir("/proc").ok()?;
    let mut processes = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name.as_encoded_bytes().first().is_some_and(u8::is_ascii_digit) {
            continue;
        }
        // It may have ended since it was listed.
        let Ok(stat) = std::fs::read(entry.path().join("stat")) else { continue };
        processes.extend(parse(&String::from_utf8_lossy(&stat)));
    }
    // Without /proc there is an empty directory at best.
    (!processes.is_empty()).then_some(processes)
}

/// Parses `pid (name) state ppid pgrp ...`, where the name may contain anything.
#[cfg(target_os = "linux")]
fn parse(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<i32>().ok());
    // The first thread may have ended before the others.
    let dead = matches!(fields.first(), Some(&"Z" | &"X")) && number(17)? <= 1;
    Some(Process {
        pid: Pid::from_raw(pid.parse().ok()?),
        parent: Pid::from_raw(number(1)?),
        group: Pid::from_raw(number(2)?),
        name: name.to_owned(),
        ended: dead,
    })
}

#[cfg(not(target_os = "linux"))]
fn all() -> Option<Vec<Process>> {
    let columns = ["-A", "-o", "pid=,ppid=,pgid=,stat=,comm="];
    let output = std::process::Command::new("ps").args(columns).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.lines().filter_map(parse).collect())
}

#[cfg(not(target_os = "linux"))]
fn parse(line: &str) -> Option<Process> {
    let mut fields = line.split_ascii_whitespace();
    let mut number = || fields.next()?.parse().ok().map(Pid::from_raw);
    let (pid, parent, group) = (number()?, number()?, number()?);
    let ended = fields.next()?.starts_with('Z');
    Some(Process { pid, parent, group, name: fields.collect::<Vec<_>>().join(" "), ended })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn names_may_contain_anything() {
        let line = "12 (a) Z 1 (b) S 7 8 9 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 5 0 0";
        let process = parse(line).unwrap();
        assert_eq!((process.pid.as_raw(), process.name.as_str()), (12, "a) Z 1 (b"));
        assert_eq!((process.parent.as_raw(), process.group.as_raw()), (7, 8));
        assert!(!process.ended);
        let ended = line.replace(") S ", ") Z ");
        assert!(parse(&ended).unwrap().ended);
        let threads = ended.replace(" 20 0 1 0 5", " 20 0 2 0 5");
        assert!(!parse(&threads).unwrap().ended, "only its first thread has ended");
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn a_child_is_below_this_process() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        let found = below(Pid::this()).unwrap();
        assert!(found.iter().any(|process| process.pid == pid), "{found:?}");
        assert_eq!(parent(pid), Some(Pid::this()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
