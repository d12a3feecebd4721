//! Who is to be told about which file.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use distributed_lock_core::driver::LossReporter;
use tokio::sync::watch;

use crate::key::LockPath;
use crate::open::Inode;

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
    loss: LossReporter,
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
    pub(super) fn hold(&self, path: &LockPath, inode: Inode, loss: &LossReporter) -> u64 {
        let mut entries = self.lock();
        entries.last_id += 1;
        let id = entries.last_id;
        let held = Held { id, inode, loss: loss.clone() };
        entries.held.entry(path.clone()).or_default().push(held);
        id
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
        let gone: Vec<LossReporter> = {
            let mut entries = self.lock();
            let Some(held) = entries.held.get_mut(path) else { return };
            // A path that cannot be looked at says nothing about who holds what.
            let (here, gone): (Vec<_>, Vec<_>) =
                held.drain(..).partition(|held| held.inode.is_at(path).unwrap_or(true));
            *held = here;
            gone.into_iter().map(|held| held.loss).collect()
        };
        for loss in gone {
            loss.lost("its lock file was removed or replaced");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
