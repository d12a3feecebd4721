//! Processes found by where they work.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// Those whose working directory is this one or in it. One that has died is in none.
pub(super) fn working_in(directory: &Path) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").expect("Linux shows its processes there");
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let works_here = |pid: &i32| {
        fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(directory))
    };
    let found = names.filter_map(|name| name.parse().ok()).filter(works_here);
    found.filter_map(Pid::from_raw).collect()
}

/// Whether it stands, after it was sent a signal to stop; one that has died does, too.
pub(super) fn is_stopped(pid: Pid) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())) else {
        return true;
    };
    // The state follows the program's name, which may have parentheses of its own.
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    matches!(state, Some('T' | 't' | 'Z' | 'X'))
}

/// Sends a signal. That the process has just died is not an error.
pub(super) fn signal(pid: Pid, signal: Signal) {
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("process {pid:?} cannot be sent {signal:?}: {error}"),
    }
}
