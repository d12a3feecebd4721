//! The same work by plain calls: what the library is held against.

use std::fs::{File, OpenOptions};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};

pub(crate) fn open(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .unwrap()
}

/// Open, flock, inode check, unlock, close.
pub(crate) fn lock_and_unlock(path: &Path) {
    let file = open(path);
    file.try_lock().unwrap();
    check_inode(&file, path);
    file.unlock().unwrap();
}

fn check_inode(file: &File, path: &Path) {
    let (held, there) = (file.metadata().unwrap(), path.symlink_metadata().unwrap());
    assert_eq!((held.dev(), held.ino()), (there.dev(), there.ino()));
}

/// Waits for releases by blocking reads of inotify, with one instance for all waits: closing one
/// takes the kernel milliseconds.
pub(crate) struct Waiter {
    inotify: OwnedFd,
}

impl Waiter {
    pub(crate) fn new() -> Self {
        Self { inotify: inotify::init(CreateFlags::CLOEXEC).unwrap() }
    }

    /// Waits for somebody's close, then locks. `waiting` is called when the release may come.
    pub(crate) fn wait_and_lock(&self, path: &Path, waiting: impl FnOnce()) -> File {
        let released = WatchFlags::CLOSE_WRITE | WatchFlags::CLOSE_NOWRITE;
        let watch = inotify::add_watch(&self.inotify, path, released).unwrap();
        let file = open(path);
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut events = Reader::new(&self.inotify, &mut buffer);
        waiting();
        while file.try_lock().is_err() {
            events.next().unwrap();
        }
        inotify::remove_watch(&self.inotify, watch).unwrap();
        file
    }
}
