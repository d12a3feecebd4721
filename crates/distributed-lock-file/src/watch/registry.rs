//! Who is to be told about which file.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use distributed_lock_core::driver::LossReporter;
use tokio::sync::watch;

use crate::key::LockPath;
use crate::open::Inode;

const REMOVED: &str = "its lock file was removed or replaced";

#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    held: HashMap<LockPath, Vec<Held>>,
    /// By the number that the kernel gave the watch.
    waited: HashMap<i32, Waited>,
    last_id: u64,
}

#[derive(Debug)]
struct Held {
    id: u64,
    inode: Inode,
    fate: Fate,
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

impl Registry {
    /// Looks after a file from now on; nobody is told before [`confirm`](Self::confirm).
    pub(super) fn hold(&self, path: &LockPath, inode: Inode) -> u64 {
        let mut entries = self.lock();
        entries.last_id += 1;
        let id = entries.last_id;
        let held = Held { id, inode, fate: Fate::Unconfirmed };
        entries.held.entry(path.clone()).or_default().push(held);
        id
    }

    /// The file was the one at its path after it was registered: `loss` is told when that changes,
    /// at once if it has changed since.
    pub(super) fn confirm(&self, path: &LockPath, id: u64, loss: &LossReporter) {
        let mut entries = self.lock();
        let held = entries.held.get_mut(path).and_then(|held| held.iter_mut().find(|h| h.id == id));
        match held {
            Some(Held { fate: fate @ Fate::Unconfirmed, .. }) => {
                *fate = Fate::Confirmed(loss.clone());
            }
            _ => {
                drop(entries);
                loss.lost(REMOVED);
            }
        }
    }

    pub(super) fn release(&self, path: &LockPath, id: u64) {
        let mut entries = self.lock();
        if let Some(held) = entries.held.get_mut(path) {
            held.retain(|held| held.id != id);
            if held.is_empty() {
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
    pub(super) fn changed(&self, id: i32) {
        if let Some(waited) = self.lock().waited.get(&id) {
            waited.changes.send_replace(());
        }
    }

    /// The directory entry of this name has changed: is what was held still there?
    pub(super) fn check(&self, file_name: &str) {
        let path = self.lock().held.get_key_value(file_name).map(|(path, _)| path.clone());
        if let Some(path) = path {
            self.check_path(&path);
        }
    }

    /// Events may have been missed: look at everything.
    pub(super) fn check_all(&self) {
        let keys: Vec<LockPath> = {
            let entries = self.lock();
            for waited in entries.waited.values() {
                waited.changes.send_replace(());
            }
            entries.held.keys().cloned().collect()
        };
        keys.iter().for_each(|path| self.check_path(path));
    }

    fn check_path(&self, path: &LockPath) {
        let mut lost = Vec::new();
        if let Some(held) = self.lock().held.get_mut(path) {
            for held in held {
                // A path that cannot be looked at says nothing about who holds what.
                if !held.inode.is_at(path).unwrap_or(true)
                    && let Fate::Confirmed(loss) = std::mem::replace(&mut held.fate, Fate::Gone)
                {
                    lost.push(loss);
                }
            }
        }
        for loss in lost {
            loss.lost(REMOVED);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    ) -> (Registry, LockPath, OpenFile, u64, LossReporter, Arc<AtomicUsize>) {
        let path = FileKey::lock(directory, "stem".into()).first().clone();
        let open = open_lock_file(&path, &FileOptions::default()).unwrap();
        let registry = Registry::default();
        let id = registry.hold(&path, open.inode);
        let told = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&told);
        let loss = LossReporter::from_fn(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        (registry, path, open, id, loss, told)
    }

    #[test]
    fn a_file_that_was_gone_before_it_was_held_is_no_loss() {
        let directory = tempfile::tempdir().unwrap();
        let (registry, path, _open, id, _loss, told) = registered(directory.path());
        std::fs::remove_file(&path).unwrap();
        registry.check_all();
        registry.release(&path, id);
        assert_eq!(told.load(Ordering::SeqCst), 0);
        assert!(registry.lock().held.is_empty());
    }

    #[test]
    fn a_file_that_goes_while_it_is_confirmed_is_a_loss_told_once() {
        let directory = tempfile::tempdir().unwrap();
        for seen_first in [true, false] {
            let (registry, path, _open, id, loss, told) = registered(directory.path());
            std::fs::remove_file(&path).unwrap();
            if seen_first {
                registry.check_all();
            }
            registry.confirm(&path, id, &loss);
            registry.check_all();
            registry.check_all();
            assert_eq!(told.load(Ordering::SeqCst), 1);
        }
    }
}
