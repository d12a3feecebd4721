//! File locks between real processes, and with programs that are not ours.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests")]

mod conformance;
mod faults;
mod file_systems;
mod first_start;
mod flock_program;
mod holder;
mod loss;
mod moved;
mod neighbour;
mod resources;
mod stopped_waiters;
mod unlinking_peers;
mod unused;
mod waiting;
mod worker;

use std::path::{Path, PathBuf};

use distributed_lock_file::FileLockProvider;
use distributed_lock_file::name::lock_file_name;

fn provider(directory: &Path) -> FileLockProvider {
    FileLockProvider::builder().build(directory).unwrap()
}

fn lock_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(lock_file_name(name).unwrap())
}
