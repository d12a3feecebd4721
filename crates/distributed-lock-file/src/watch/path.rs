//! Where the path of the lock directory leads, watched.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::inotify::{self, WatchFlags};

use crate::route::steps;

/// What can take a file in the lock directory, or the directory itself, from its path.
const IN_DIRECTORY: WatchFlags = WatchFlags::DELETE
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(ON_PATH)
    .union(WatchFlags::ONLYDIR);

/// What can make a path lead elsewhere: the directory or link itself is moved or removed. What else is
/// in the directories above raises no event.
const ON_PATH: WatchFlags =
    WatchFlags::DELETE_SELF.union(WatchFlags::MOVE_SELF).union(WatchFlags::MASK_ADD);

/// A link that is removed changes its number of names.
const LINK: WatchFlags = ON_PATH.union(WatchFlags::ATTRIB).union(WatchFlags::DONT_FOLLOW);

const ABOVE: WatchFlags = ON_PATH.union(WatchFlags::DONT_FOLLOW).union(WatchFlags::ONLYDIR);

/// How often the path is followed in one go if it changes meanwhile.
const MOST_CHANGES: usize = 4;

/// The watches on everything that decides where the lock directory is.
#[derive(Debug)]
pub(super) struct WatchedPath {
    inotify: Arc<OwnedFd>,
    path: PathBuf,
    watches: Mutex<Watches>,
    /// The directory is not watched: it cannot be, or is not there.
    is_blind: AtomicBool,
}

/// The kernel's numbers of the watches. It gives one number to one file, so as long as they are the same
/// the path leads to the same directory by the same way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Watches {
    pub(super) directory: Option<i32>,
    /// Of the directories above and the links, in ascending order.
    above: Vec<i32>,
}

impl Watches {
    /// Whether an event of this number can mean that the path leads elsewhere.
    pub(super) fn are_on_path(&self, number: i32) -> bool {
        self.directory == Some(number) || self.above.binary_search(&number).is_ok()
    }
}

impl WatchedPath {
    pub(super) fn new(inotify: Arc<OwnedFd>, path: PathBuf) -> Self {
        let (watches, is_blind) = (Mutex::default(), AtomicBool::new(true));
        Self { inotify, path, watches, is_blind }
    }

    /// Whether events in the directory go unnoticed.
    pub(super) fn is_blind(&self) -> bool {
        self.is_blind.load(Ordering::Acquire)
    }

    pub(super) fn watches(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches what the path leads through now; whether that is anything else than before.
    pub(super) fn follow(&self) -> bool {
        let mut current = self.watches();
        let before = current.clone();
        for _ in 0..MOST_CHANGES {
            let fresh = self.watch();
            let old = std::mem::replace(&mut *current, fresh);
            if old == *current {
                break;
            }
            // Once more: it may have changed on the way.
            self.unwatch(&old, &current);
        }
        self.is_blind.store(current.directory.is_none(), Ordering::Release);
        *current != before
    }

    fn watch(&self) -> Watches {
        let add = |path: &Path, flags| inotify::add_watch(&*self.inotify, path, flags).ok();
        // What cannot be watched, because this user may not read it or there are too many watches, is
        // noticed at the next look.
        let (steps, _) = steps(&self.path);
        let flags = |is_link| if is_link { LINK } else { ABOVE };
        let above = steps.iter().filter_map(|step| add(&step.path, flags(step.is_link())));
        let mut above: Vec<i32> = above.collect();
        let directory = add(&self.path, IN_DIRECTORY);
        above.retain(|number| Some(*number) != directory);
        above.sort_unstable();
        above.dedup();
        Watches { directory, above }
    }

    /// Ends the watches that are not needed any more.
    fn unwatch(&self, old: &Watches, new: &Watches) {
        let numbers = old.above.iter().chain(&old.directory);
        for number in numbers.filter(|number| !new.are_on_path(**number)) {
            // Fails for what is gone, whose watch went with it.
            let _ = inotify::remove_watch(&*self.inotify, *number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::inotify::CreateFlags;

    use super::*;

    #[test]
    fn the_same_way_has_the_same_watches() {
        let parent = tempfile::tempdir().unwrap();
        let join = |name: &str| parent.path().join(name);
        fs::create_dir_all(join("first/locks")).unwrap();
        fs::create_dir_all(join("second/locks")).unwrap();
        symlink("first", join("link")).unwrap();
        let inotify = Arc::new(inotify::init(CreateFlags::CLOEXEC).unwrap());
        let path = WatchedPath::new(inotify, join("link/locks"));
        assert!(path.is_blind());
        assert!(path.follow());
        assert!(!path.is_blind() && !path.follow());
        fs::remove_file(join("link")).unwrap();
        assert!(path.follow());
        assert!(path.is_blind());
        symlink("second", join("link")).unwrap();
        assert!(path.follow());
        assert!(!path.is_blind() && !path.follow());
        fs::rename(join("first"), join("third")).unwrap();
        assert!(!path.follow(), "no longer on the path");
    }
}
