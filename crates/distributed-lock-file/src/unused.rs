//! Removing the files of names that are not used any more.
//!
//! A file is removed while this process has it locked exclusively, and only if it is the one at its
//! path. A process that opened it before finds, once it has locked it, that its path leads to another
//! file or none, and opens that: the same check that excludes programs which remove files at release.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use distributed_lock_core::error::{LockError, LockResult};

use crate::builder::FileLockProviderBuilder;
use crate::clock::since_1970;
use crate::counter;
use crate::directory::check_directory;
use crate::failure::{of_file, refusal};
use crate::flock::{ShareMode, try_lock};
use crate::name::is_stem;
use crate::open::{Access, OpenFile, open_existing, remove_file};
use crate::options::FileOptions;

/// How long files must have been unused at least. A token may be drawn again if its counter is removed
/// and the clock is then set back behind the last one.
const SHORTEST: Duration = Duration::from_secs(60);

/// A file that nobody else has locked.
struct Unused {
    path: PathBuf,
    /// Keeps it locked.
    open: OpenFile,
}

pub(crate) fn remove(
    directory: &Path,
    unused_for: Duration,
    options: &FileOptions,
) -> LockResult<usize> {
    if unused_for < SHORTEST {
        return Err(LockError::Config(format!(
            "files that were used {unused_for:?} ago may be used again at any moment; \
             {SHORTEST:?} is the shortest time"
        )));
    }
    let directory = std::path::absolute(directory).map_err(refusal)?;
    check_directory(&directory, options)?;
    let sweep = Sweep { unused_for, options };
    let stems = stems(&directory).map_err(|error| refusal(of_file(&directory, error)))?;
    Ok(stems.iter().map(|(stem, endings)| sweep.name(&directory.join(stem), endings)).sum())
}

/// The endings of the files in the directory that are ours, by stem.
fn stems(directory: &Path) -> std::io::Result<BTreeMap<String, Vec<String>>> {
    let mut stems = BTreeMap::<_, Vec<String>>::new();
    for entry in fs::read_dir(directory)? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        if let Some((stem, ending)) = name.split_once('.')
            && is_stem(stem)
            && is_ending(ending)
        {
            stems.entry(stem.to_owned()).or_default().push(ending.to_owned());
        }
    }
    Ok(stems)
}

fn is_ending(ending: &str) -> bool {
    ["lock", "turnstile", "bell", "token"].contains(&ending) || is_slot(ending)
}

fn is_slot(ending: &str) -> bool {
    ending.strip_prefix("slot").is_some_and(|number| number.parse::<u32>().is_ok())
}

struct Sweep<'a> {
    unused_for: Duration,
    options: &'a FileOptions,
}

impl Sweep<'_> {
    /// Removes the unused files of a name; how many.
    fn name(&self, stem: &Path, endings: &[String]) -> usize {
        let has = |ending: &str| endings.iter().any(|other| other == ending);
        let path = |ending: &str| stem.with_extension(ending);
        let mut removed = 0;
        let mut is_used = false;
        for ending in ["lock", "turnstile"] {
            if has(ending) {
                let one = self.unused(path(ending)).is_some_and(|unused| self.remove(&unused));
                removed += usize::from(one);
                is_used |= !one;
            }
        }
        let slots = endings.iter().filter(|ending| is_slot(ending));
        let slots: Option<Vec<_>> = slots.map(|slot| self.unused(path(slot))).collect();
        match slots {
            // A holder has the bell open without locking it, so it goes only with all slots.
            Some(slots) => {
                let bell = has("bell").then(|| self.unused(path("bell"))).flatten();
                let all = bell.into_iter().chain(slots);
                let gone = all.filter(|unused| self.remove(unused)).count();
                removed += gone;
            }
            None => is_used = true,
        }
        if has("token") && !is_used {
            let counter = self.unused(path("token")).filter(Unused::is_behind_the_clock);
            removed += usize::from(counter.is_some_and(|unused| self.remove(&unused)));
        }
        removed
    }

    /// Locks a file that was not used lately and is not in use. What cannot be opened is not ours to
    /// remove.
    fn unused(&self, path: PathBuf) -> Option<Unused> {
        let open = open_existing(&path, Access::Write, self.options).ok()??;
        // Before locking it, so that no try of somebody else meets our lock on a file in use.
        let is_locked = self.is_old(&open) && try_lock(&open, ShareMode::Exclusive).ok()?;
        let is_ours = is_locked && self.is_old(&open) && open.inode.is_at(&path).ok()?;
        is_ours.then_some(Unused { path, open })
    }

    /// Keeps its lock until it is removed.
    fn remove(&self, Unused { path, open }: &Unused) -> bool {
        remove_file(path, open.inode, self.options).unwrap_or(false)
    }

    /// Holders and waiters write to what they lock.
    fn is_old(&self, open: &OpenFile) -> bool {
        let written = open.file.metadata().and_then(|metadata| metadata.modified()).ok();
        let written = written.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let age = written.and_then(|written| since_1970().checked_sub(written));
        age.is_some_and(|age| age >= self.unused_for)
    }
}

impl Unused {
    /// Whether tokens go on increasing without it.
    fn is_behind_the_clock(&self) -> bool {
        counter::stored(&self.open.file).is_ok_and(|stored| stored < counter::now_in_micros())
    }
}

impl FileLockProviderBuilder {
    /// Removes the files of names that nobody uses and nobody has used for `unused_for`; how many.
    ///
    /// Each name that was ever locked leaves two to three files, and a semaphore one more for each
    /// permit, which nothing else removes. Call this now and then where names come and go. It is safe
    /// beside processes that lock these very names at the same time: what they have locked or used
    /// lately stays, and a file that they are about to lock is made anew. A
    /// [`try_acquire`](distributed_lock_core::traits::DistributedLock::try_acquire) at the moment in
    /// which an unused file is removed can be `None`. Files that are not in the [format](crate#files),
    /// or not ours to remove, stay.
    ///
    /// Programs that lock without looking whether their file is still at its path, such as `flock(1)`,
    /// are not safe if they start at that moment. They do not count as use either unless they write to
    /// the file: choose a time that is longer than the longest pause between their runs.
    ///
    /// The tokens of a name whose counter was removed go on from the clock, as those of a new name.
    ///
    /// Blocks the thread while it reads the directory. Nothing is made.
    ///
    /// # Errors
    /// [`LockError::Config`] if the directory is not there or not safe to use, or `unused_for` is below a
    /// minute; [`LockError::Backend`] if it cannot be read.
    ///
    /// ```
    /// use std::time::Duration;
    /// use distributed_lock_file::FileLockProvider;
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let a_month = Duration::from_secs(30 * 24 * 60 * 60);
    /// let removed = FileLockProvider::builder().remove_unused(directory.path(), a_month)?;
    /// # assert_eq!(removed, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove_unused(
        self,
        directory: impl AsRef<Path>,
        unused_for: Duration,
    ) -> LockResult<usize> {
        remove(directory.as_ref(), unused_for, &self.file_options()?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;
    use crate::open::open_lock_file;

    const REMOVED: usize = 50;

    /// Locks as `flock.rs` does; whether that succeeded.
    fn hold(path: &Path, options: &FileOptions, is_held: &AtomicBool) -> bool {
        let open = open_lock_file(path, options).unwrap();
        let is_locked = try_lock(&open, ShareMode::Exclusive).unwrap();
        if !is_locked || !open.inode.is_at(path).unwrap() {
            return false;
        }
        assert!(!is_held.swap(true, Ordering::SeqCst), "two hold");
        std::thread::yield_now();
        assert!(open.inode.is_at(path).unwrap(), "removed while it is held");
        is_held.store(false, Ordering::SeqCst);
        true
    }

    #[test]
    fn removing_lets_no_second_holder_in() {
        let directory = tempfile::tempdir().unwrap();
        let stem = directory.path().join("A".repeat(32));
        let path = stem.with_extension("lock");
        let options = FileOptions::default();
        let (is_held, ends) = (AtomicBool::new(false), AtomicBool::new(false));
        let (removed, acquired) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !ends.load(Ordering::SeqCst) {
                        let held = hold(&path, &options, &is_held);
                        acquired.fetch_add(usize::from(held), Ordering::SeqCst);
                        // Free for a while, for those who remove it.
                        (0..10).for_each(|_| std::thread::yield_now());
                    }
                });
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    let sweep = Sweep { unused_for: Duration::ZERO, options: &options };
                    while removed.load(Ordering::SeqCst) < REMOVED {
                        let gone = sweep.name(&stem, &["lock".into()]);
                        removed.fetch_add(gone, Ordering::SeqCst);
                    }
                    ends.store(true, Ordering::SeqCst);
                });
            }
        });
        assert!(acquired.load(Ordering::SeqCst) > 0);
    }

    #[test]
    fn only_our_files_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let stem = crate::name::lock_file_name("näme 1").unwrap();
        let stem = stem.trim_end_matches(".lock");
        for ending in ["lock", "slot17", "slot", "slot-1", "lock.lock", "bak", "token"] {
            fs::write(directory.path().join(format!("{stem}.{ending}")), "").unwrap();
        }
        fs::write(directory.path().join("short.lock"), "").unwrap();
        let found = stems(directory.path()).unwrap();
        let mut endings = found[stem].clone();
        endings.sort();
        assert_eq!(
            (found.len(), endings),
            (1, vec!["lock".into(), "slot17".into(), "token".into()])
        );
    }
}
