//! Who is to be told about which file.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use distributed_lock_core::driver::LossReporter;
use tokio::sync::watch;

use crate::key::FileKey;
use crate::open::Inode;

#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    held: HashMap<FileKey, Vec<Held>>,
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
    key: FileKey,
    /// The file that a waiter has open.
    file: Weak<File>,
    changes: watch::Sender<()>,
    interests: usize,
}

impl Waited {
    fn new(key: FileKey) -> Self {
        Self { key, file: Weak::new(), changes: watch::Sender::new(()), interests: 0 }
    }
}

impl Registry {
    pub(super) fn hold(&self, key: &FileKey, inode: Inode, loss: &LossReporter) -> u64 {
        let mut entries = self.lock();
        entries.last_id += 1;
        let id = entries.last_id;
        let held = Held { id, inode, loss: loss.clone() };
        entries.held.entry(key.clone()).or_default().push(held);
        id
    }

    pub(super) fn release(&self, key: &FileKey, id: u64) {
        let mut entries = self.lock();
        if let Some(held) = entries.held.get_mut(key) {
            held.retain(|held| held.id != id);
            if held.is_empty() {
                entries.held.remove(key);
            }
        }
    }

    /// Adds an interest in the watch that `add` makes; its changes from now on.
    pub(super) fn wait(
        &self,
        key: &FileKey,
        file: &Arc<File>,
        add: impl FnOnce() -> io::Result<i32>,
    ) -> io::Result<(i32, watch::Receiver<()>)> {
        let mut entries = self.lock();
        let id = add()?;
        let waited = entries.waited.entry(id).or_insert_with(|| Waited::new(key.clone()));
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

    /// The open file of somebody who waits for this key.
    pub(super) fn waiting_file(&self, key: &FileKey) -> Option<Arc<File>> {
        let entries = self.lock();
        entries.waited.values().find(|waited| waited.key == *key)?.file.upgrade()
    }

    /// A file that is waited for has changed.
    pub(super) fn changed(&self, id: i32) {
        if let Some(waited) = self.lock().waited.get(&id) {
            waited.changes.send_replace(());
        }
    }

    /// The directory entry of this name has changed: is what was held still there?
    pub(super) fn check(&self, file_name: &str) {
        let key = self.lock().held.get_key_value(file_name).map(|(key, _)| key.clone());
        if let Some(key) = key {
            self.check_key(&key);
        }
    }

    /// Events may have been missed: look at everything.
    pub(super) fn check_all(&self) {
        let keys: Vec<FileKey> = {
            let entries = self.lock();
            for waited in entries.waited.values() {
                waited.changes.send_replace(());
            }
            entries.held.keys().cloned().collect()
        };
        keys.iter().for_each(|key| self.check_key(key));
    }

    fn check_key(&self, key: &FileKey) {
        let gone: Vec<LossReporter> = {
            let mut entries = self.lock();
            let Some(held) = entries.held.get_mut(key) else { return };
            // A path that cannot be looked at says nothing about who holds what.
            let (here, gone): (Vec<_>, Vec<_>) =
                held.drain(..).partition(|held| held.inode.is_at(key.path()).unwrap_or(true));
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
