//! Keeps the cores awake without being in the way.

use std::process::{Child, Command, Stdio};

use rustix::thread::{CpuSet, sched_setaffinity};

/// Binds this process to one core, if it is there.
pub(crate) fn bind_to_core(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    // Refused where there is no such core.
    let _ = sched_setaffinity(None, &set);
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Spinning processes, ended when this is dropped.
pub(crate) struct Spinners(Vec<Child>);

pub(crate) fn start() -> Spinners {
    let spin = || {
        Command::new("nice")
            .args(["-n", "19", "sh", "-c", "while :; do :; done"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    };
    Spinners((0..cores()).map(|_| spin()).collect())
}

impl Drop for Spinners {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
