//! Who is to be told about which file.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use distributed_lock_core::driver::LossReporter;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::driver::TAKEN_AWAY;
use crate::key::LockPath;
use crate::open::Inode;

#[derive(Debug, Default)]
pub(super) struct Registry {
    entries: Mutex<Entries>,
    used: Notify,
}

#[derive(Debug, Default)]
struct Entries {
    /// Nothing was held at the last look, and none follows until something is.
    rests: bool,
    held: HashMap<LockPath, Vec<Arc<Held>>>,
    /// By the number that the kernel gave the watch.
    waited: HashMap<i32, Waited>,
}

/// A locked file, and what is to become of it.
#[derive(Debug)]
pub(super) struct Held {
    inode: Inode,
    since: Instant,
    fate: Mutex<Fate>,
}

#[derive(Debug)]
enum Fate {
    /// Locked, but not yet known to be the file at its path.
    Unconfirmed,
    /// No longer at its path, seen before that was known.
    Gone,
    /// Held; this is to be told when it is gone.
    Confirmed(LossReporter),
}

/// The kernel gives one number for one file, however often it is watched.
#[derive(Debug)]
struct Waited {
    path: LockPath,
    /// The file that a waiter has open.
    file: Weak<File>,
    changes: watch::Sender<()>,
    interests: usize,
}

impl Waited {
    fn new(path: LockPath) -> Self {
        Self { path, file: Weak::new(), changes: watch::Sender::new(()), interests: 0 }
    }
}

impl Held {
    /// The file was the one at its path after it was registered: `loss` is told when that changes,
    /// at once if it has changed since.
    pub(super) fn confirm(&self, loss: &LossReporter) {
        match self.replace(Fate::Confirmed(loss.clone())) {
            Fate::Gone => self.gone(),
            Fate::Unconfirmed | Fate::Confirmed(_) => {}
        }
    }

    fn gone(&self) {
        if let Fate::Confirmed(loss) = self.replace(Fate::Gone) {
            loss.lost(TAKEN_AWAY);
        }
    }

    fn replace(&self, fate: Fate) -> Fate {
        let mut now = self.fate.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *now, fate)
    }
}

impl Registry {
    /// Looks after a file from now on; nobody is told before it is [confirmed](Held::confirm).
    pub(super) fn hold(&self, path: &LockPath, inode: Inode) -> Arc<Held> {
        let fate = Mutex::new(Fate::Unconfirmed);
        let held = Arc::new(Held { inode, since: Instant::now(), fate });
        let rested = {
            let mut entries = self.lock();
            entries.held.entry(path.clone()).or_default().push(Arc::clone(&held));
            std::mem::take(&mut entries.rests)
        };
        if rested {
            self.used.notify_one();
        }
        held
    }

    /// Whether nothing is held. Then the next hold is [reported](Self::used).
    #[cfg(target_os = "linux")]
    pub(super) fn rest(&self) -> bool {
        let mut entries = self.lock();
        entries.rests = entries.held.is_empty();
        entries.rests
    }

    /// Since when the oldest of all holds lasts. If there is none, the next is [reported](Self::used).
    pub(super) fn first_held_at(&self) -> Option<Instant> {
        let mut entries = self.lock();
        entries.rests = entries.held.is_empty();
        entries.held.values().flatten().map(|held| held.since).min()
    }

    /// Has [`used`](Self::used) complete.
    pub(super) fn wake_reader(&self) {
        self.used.notify_one();
    }

    /// Completes with the first hold since nothing was held at a look.
    pub(super) async fn used(&self) {
        self.used.notified().await;
    }

    pub(super) fn release(&self, path: &LockPath, held: &Arc<Held>) {
        let mut entries = self.lock();
        if let Some(others) = entries.held.get_mut(path) {
            others.retain(|other| !Arc::ptr_eq(other, held));
            if others.is_empty() {
                entries.held.remove(path);
            }
        }
    }

    /// Adds an interest in the watch that `add` makes; its changes from now on.
    pub(super) fn wait(
        &self,
        path: &LockPath,
        file: &Arc<File>,
        add: impl FnOnce() -> io::Result<i32>,
    ) -> io::Result<(i32, watch::Receiver<()>)> {
        let mut entries = self.lock();
        let id = add()?;
        let waited = entries.waited.entry(id).or_insert_with(|| Waited::new(path.clone()));
        waited.interests += 1;
        waited.file = Arc::downgrade(file);
        Ok((id, waited.changes.subscribe()))
    }

    /// Ends an interest, and with the last one the watch.
    pub(super) fn stop_waiting(&self, id: i32, remove: impl FnOnce()) {
        let mut entries = self.lock();
        if let Some(waited) = entries.waited.get_mut(&id) {
            waited.interests -= 1;
            if waited.interests == 0 {
                entries.waited.remove(&id);
                remove();
            }
        }
    }

    /// The open file of somebody who waits for this path.
    pub(super) fn waiting_file(&self, path: &LockPath) -> Option<Arc<File>> {
        let entries = self.lock();
        entries.waited.values().find(|waited| waited.path == *path)?.file.upgrade()
    }

    /// A file that is waited for has changed.
    #[cfg(target_os = "linux")]
    pub(super) fn changed(&self, id: i32) {
        if let Some(waited) = self.lock().waited.get(&id) {
            waited.changes.send_replace(());
        }
    }

    /// The directory entry of this name has changed: is what was held still there?
    #[cfg(target_os = "linux")]
    pub(super) fn check(&self, file_name: &str) {
        let path = self.lock().held.get_key_value(file_name).map(|(path, _)| path.clone());
        if let Some(path) = path {
            self.check_path(&path);
        }
    }

    /// Looks whether everything that is held is still at its path.
    pub(super) fn check_all(&self) {
        let paths: Vec<LockPath> = self.lock().held.keys().cloned().collect();
        paths.iter().for_each(|path| self.check_path(path));
    }

    /// Events may have been missed: all waiters try again.
    #[cfg(target_os = "linux")]
    pub(super) fn wake_all(&self) {
        for waited in self.lock().waited.values() {
            waited.changes.send_replace(());
        }
    }

    fn check_path(&self, path: &LockPath) {
        let held = self.lock().held.get(path).cloned().unwrap_or_default();
        for held in held {
            // A path that cannot be looked at says nothing about who holds what.
            if !held.inode.is_at(path).unwrap_or(true) {
                held.gone();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::key::FileKey;
    use crate::open::{OpenFile, open_lock_file};
    use crate::options::FileOptions;

    /// A file that is registered, and what is told about it.
    fn registered(
        directory: &std::path::Path,
    ) -> (Registry, LockPath, OpenFile, Arc<Held>, LossReporter, Arc<AtomicUsize>) {
        let path = FileKey::lock(directory, "stem".into()).first().clone();
        let open = open_lock_file(&path, &FileOptions::default()).unwrap();
        let registry = Registry::default();
        let held = registry.hold(&path, open.inode);
        let told = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&told);
        let loss = LossReporter::from_fn(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        (registry, path, open, held, loss, told)
    }

    #[test]
    fn a_file_that_was_gone_before_it_was_held_is_no_loss() {
        let directory = tempfile::tempdir().unwrap();
        let (registry, path, _open, held, _loss, told) = registered(directory.path());
        std::fs::remove_file(&path).unwrap();
        registry.check_all();
        registry.release(&path, &held);
        assert_eq!(told.load(Ordering::SeqCst), 0);
        assert!(registry.lock().held.is_empty());
    }

    #[test]
    fn a_file_that_goes_while_it_is_confirmed_is_a_loss_told_once() {
        let directory = tempfile::tempdir().unwrap();
        for seen_first in [true, false] {
            let (registry, path, _open, held, loss, told) = registered(directory.path());
            std::fs::remove_file(&path).unwrap();
            if seen_first {
                registry.check_all();
            }
            held.confirm(&loss);
            registry.check_all();
            registry.check_all();
            assert_eq!(told.load(Ordering::SeqCst), 1);
        }
    }
}
