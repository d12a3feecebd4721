//! Keeps the cores awake without being in the way.

use std::process::{Child, Command, Stdio};

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

/// Binds a process to one core, if it is there.
pub(crate) fn bind_to_core(process: u32, core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    let process = Pid::from_raw(process.cast_signed());
    // Refused where there is no such core.
    let _ = sched_setaffinity(process, &set);
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Spinning processes, ended when this is dropped.
pub(crate) struct Spinners(Vec<Child>);

pub(crate) fn start() -> Spinners {
    let spin = |core: usize| {
        let child = Command::new("nice")
            .args(["-n", "19", "sh", "-c", "while :; do :; done"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        bind_to_core(child.id(), core);
        child
    };
    // This process is bound to one core; the machine has the others, too.
    Spinners((0..cores().max(2)).map(spin).collect())
}

impl Drop for Spinners {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
