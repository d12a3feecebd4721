//! What can be done to lock files behind the back of those who lock them.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command as Program;

/// Small, so that it is full quickly.
const ROOM: &str = "size=1m,nr_inodes=160,mode=700";

/// How files that take up room are called; no lock file is.
const FILLER: &str = "filler";

/// The directory of the lock files.
#[derive(Debug)]
pub struct LockFiles {
    directory: PathBuf,
    /// The part of a lock's file names before the first dot.
    stem: fn(&str) -> String,
    is_mounted: bool,
}

/// A way to keep everybody from opening a lock file for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Another file may not be opened: for all but root.
    NoPermission,
    /// A directory stands where the file was.
    Directory,
    /// The file is gone and the file system is full.
    FullDisk,
}

impl Obstacle {
    /// Whether it takes the file away from those who have it locked.
    #[must_use]
    pub fn ends_holds(self) -> bool {
        self != Self::NoPermission
    }
}

impl LockFiles {
    /// Makes the directory, on a small file system of its own if we may mount one.
    ///
    /// # Errors
    /// Of making the directory.
    pub fn create(directory: PathBuf, stem: fn(&str) -> String) -> io::Result<Self> {
        fs::create_dir(&directory)?;
        fs::set_permissions(&directory, Permissions::from_mode(0o700))?;
        let mut mount = Program::new("mount");
        mount.args(["-t", "tmpfs", "-o", ROOM, "distributed-lock-chaos"]).arg(&directory);
        let is_mounted = mount.output().is_ok_and(|output| output.status.success());
        Ok(Self { directory, stem, is_mounted })
    }

    /// Whether the file system is ours to fill.
    #[must_use]
    pub fn can_be_filled(&self) -> bool {
        self.is_mounted
    }

    /// The URL of locks in this directory.
    #[must_use]
    pub fn url(&self) -> String {
        format!("file://{}", self.directory.display())
    }

    /// The files that holders of this lock or semaphore have locked.
    #[must_use]
    pub fn locked(&self, lock: &str) -> Vec<PathBuf> {
        self.with_ending(lock, |ending| ending == "lock" || ending.starts_with("slot"))
    }

    /// The files that only help those who wait.
    #[must_use]
    pub fn auxiliary(&self, lock: &str) -> Vec<PathBuf> {
        self.with_ending(lock, |ending| ending == "turnstile" || ending == "bell")
    }

    fn with_ending(&self, lock: &str, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let stem = (self.stem)(lock);
        let names = self.names().into_iter().filter(|name| {
            name.strip_prefix(&stem).and_then(|end| end.strip_prefix('.')).is_some_and(&wanted)
        });
        names.map(|name| self.directory.join(name)).collect()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
    }

    /// Removes files; how many were there.
    pub fn remove(&self, files: &[PathBuf]) -> usize {
        files.iter().filter(|file| fs::remove_file(file).is_ok()).count()
    }

    /// Puts an obstacle in the place of a lock file; [`clear`](Self::clear) takes it away. The disk
    /// is filled before: see [`fill`](Self::fill).
    ///
    /// # Errors
    /// If somebody put the file back at once; nothing is in the way then.
    pub fn obstruct(&self, file: &Path, obstacle: Obstacle) -> io::Result<()> {
        match obstacle {
            Obstacle::NoPermission => fs::set_permissions(file, Permissions::from_mode(0o000)),
            Obstacle::Directory => {
                fs::remove_file(file)?;
                fs::create_dir(file)
            }
            // Moved, not removed: that would make room for another.
            Obstacle::FullDisk => fs::rename(file, self.directory.join(format!("{FILLER}-moved"))),
        }
    }

    /// Takes an obstacle away.
    ///
    /// # Errors
    /// Of doing so.
    pub fn clear(&self, file: &Path, obstacle: Obstacle) -> io::Result<()> {
        match obstacle {
            Obstacle::NoPermission => fs::set_permissions(file, Permissions::from_mode(0o600)),
            Obstacle::Directory => fs::remove_dir(file),
            Obstacle::FullDisk => {
                let names = self.names();
                let mut fillers = names.iter().filter(|name| name.starts_with(FILLER));
                fillers.try_for_each(|name| fs::remove_file(self.directory.join(name)))
            }
        }
    }

    /// Leaves no room for another byte or another file, until that is
    /// [cleared](Obstacle::FullDisk).
    ///
    /// # Errors
    /// Of filling it, other than that it is full.
    pub fn fill(&self) -> io::Result<()> {
        let path = |number: u32| self.directory.join(format!("{FILLER}-{number}"));
        let full = fs::write(path(0), vec![0; 2 << 20]);
        if !is_no_room(&full) {
            return full;
        }
        for number in 1.. {
            let made = File::create_new(path(number));
            if is_no_room(&made) {
                break;
            }
            made?;
        }
        Ok(())
    }
}

fn is_no_room<T>(result: &io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull)
}

impl Drop for LockFiles {
    fn drop(&mut self) {
        if self.is_mounted {
            // Lazily: workers may still be about to end. A leftover is small and in memory.
            let _ = Program::new("umount").arg("--lazy").arg(&self.directory).status();
        }
    }
}
