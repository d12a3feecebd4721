//! Where a resource lives at the server.

use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_core::{LockName, Mode};
use sha2::{Digest, Sha256};

use crate::slot::tag_for;

/// What every key begins with that is not a mutex key.
const RESERVED: &str = "distributed-lock/1:{";

/// The keys of one resource: a lock, or the semaphore of the same name.
#[derive(Clone)]
pub struct RedisKey(Arc<Resource>);

/// Held by every lock, so in one piece.
struct Resource {
    /// The mutex key, then `distributed-lock/1:{T}:`, then `:` and the hash of the mutex key.
    text: Box<str>,
    mutex_ends: usize,
    before_ends: usize,
    is_semaphore: bool,
}

impl Resource {
    fn mutex(&self) -> &str {
        &self.text[..self.mutex_ends]
    }

    /// What the other keys begin with.
    fn before(&self) -> &str {
        &self.text[self.mutex_ends..self.before_ends]
    }

    /// What they end with.
    fn after(&self) -> &str {
        &self.text[self.before_ends..]
    }
}

impl RedisKey {
    /// The keys for a name and a mode.
    pub(crate) fn new(prefix: &str, name: LockName<'_>, mode: Mode) -> LockResult<Self> {
        let mut text = format!("{prefix}{name}");
        if text.starts_with(RESERVED) {
            return Err(LockError::InvalidName(format!(
                "its key would begin with {RESERVED:?}, which is kept for queues and counters"
            )));
        }
        let (mutex_ends, hash) = (text.len(), Sha256::digest(text.as_bytes()));
        let tag = tag_for(&text);
        // Writing to a string does not fail.
        let _ = write!(text, "{RESERVED}{tag}}}:");
        let before_ends = text.len();
        text.push(':');
        for byte in &hash[..16] {
            let _ = write!(text, "{byte:02x}");
        }
        let is_semaphore = matches!(mode, Mode::Permit { .. });
        Ok(Self(Arc::new(Resource { text: text.into(), mutex_ends, before_ends, is_semaphore })))
    }

    /// The plain string key that locks in other languages use too.
    pub(crate) fn mutex(&self) -> &str {
        self.0.mutex()
    }

    pub(crate) fn is_semaphore(&self) -> bool {
        self.0.is_semaphore
    }

    /// Readers, or permits.
    pub(crate) fn holders(&self) -> String {
        self.beside(if self.0.is_semaphore { "permits" } else { "readers" })
    }

    pub(crate) fn counter(&self) -> String {
        self.beside(if self.0.is_semaphore { "permit-counter" } else { "counter" })
    }

    /// Those who wait, and attempts that were withdrawn.
    pub(crate) fn waiters(&self) -> String {
        self.beside(if self.0.is_semaphore { "permit-waiters" } else { "waiters" })
    }

    /// How long the lease of the mutex key's owner is.
    pub(crate) fn written(&self) -> String {
        self.beside("written")
    }

    /// The keys that say whether anybody holds or waits, for readers and permits.
    pub(crate) fn alone(&self) -> Vec<String> {
        let mut keys = vec![self.holders(), self.waiters()];
        if !self.0.is_semaphore {
            keys.push(self.mutex().to_owned());
        }
        keys
    }

    /// The keys that the scripts over one resource take, in their order.
    pub(crate) fn all(&self) -> Vec<String> {
        let queue = if self.0.is_semaphore { "permit-queue" } else { "queue" };
        let mut keys = vec![self.holders(), self.beside(queue), self.waiters()];
        if !self.0.is_semaphore {
            keys.extend([self.mutex().to_owned(), self.written()]);
        }
        keys
    }

    /// The same and the counter.
    pub(crate) fn with_counter(&self) -> Vec<String> {
        let mut keys = self.all();
        keys.push(self.counter());
        keys
    }

    /// The keys that commands take a free mutex by: the mutex key, those who wait, and how long the lease
    /// of the mutex key's owner is.
    pub(crate) fn mutex_on_one(&self) -> [String; 3] {
        [self.mutex().to_owned(), self.waiters(), self.written()]
    }

    /// The keys that the scripts over one resource take on each of several servers, the counter last.
    /// A permit has a mutex of its own, with this number.
    pub(crate) fn on_each(&self, slot: Option<u32>) -> Vec<String> {
        let queue = if self.0.is_semaphore { "quorum-permit-queue" } else { "quorum-queue" };
        let [mutex, waiters, written] = self.mutex_on_each(slot);
        vec![self.holders(), self.beside(queue), waiters, mutex, written, self.counter()]
    }

    /// As [`mutex_on_one`](Self::mutex_on_one), on each of several servers.
    pub(crate) fn mutex_on_each(&self, slot: Option<u32>) -> [String; 3] {
        let is_semaphore = self.0.is_semaphore;
        let waiters = if is_semaphore { "quorum-permit-waiters" } else { "quorum-waiters" };
        let (mutex, written) = match slot {
            Some(slot) => (self.slot(slot), self.beside(&format!("permit-{slot}-written"))),
            None => (self.mutex().to_owned(), self.written()),
        };
        [mutex, self.beside(waiters), written]
    }

    /// The mutex of a permit on each of several servers.
    pub(crate) fn slot(&self, slot: u32) -> String {
        self.beside(&format!("permit-{slot}"))
    }

    fn beside(&self, kind: &str) -> String {
        [self.0.before(), kind, self.0.after()].concat()
    }
}

/// The key that stands for the resource: a lock's mutex key, a semaphore's permits.
impl fmt::Display for RedisKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.is_semaphore {
            true => f.write_str(&self.holders()),
            false => f.write_str(self.mutex()),
        }
    }
}

impl fmt::Debug for RedisKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisKey").field(&self.to_string()).finish()
    }
}

impl PartialEq for RedisKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.is_semaphore == other.0.is_semaphore && self.0.mutex() == other.0.mutex()
    }
}

impl Eq for RedisKey {}

impl Hash for RedisKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0.is_semaphore, self.0.mutex()).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(prefix: &str, name: &str, mode: Mode) -> LockResult<RedisKey> {
        RedisKey::new(prefix, LockName::parse(name).unwrap(), mode)
    }

    #[test]
    fn keys_are_as_documented() {
        let lock = key("distributed-lock:", "report", Mode::Exclusive).unwrap();
        assert_eq!(lock.to_string(), "distributed-lock:report");
        assert_eq!(
            lock.holders(),
            "distributed-lock/1:{distributed-lock:report}:readers:1c4543a8a283b324c2e888317d95f378"
        );
        let permits = key("distributed-lock:", "report", Mode::Permit { max: 3 }).unwrap();
        assert!(
            permits
                .to_string()
                .starts_with("distributed-lock/1:{distributed-lock:report}:permits:")
        );
        assert_ne!(lock, permits);
        assert_eq!(lock, key("distributed-lock:", "report", Mode::Shared).unwrap());
    }

    #[test]
    fn a_name_cannot_reach_what_is_kept_for_queues() {
        for (prefix, name) in [("", "distributed-lock/1:{x"), ("distributed-lock/1:", "{x}:queue")]
        {
            let refused = key(prefix, name, Mode::Shared);
            assert!(matches!(refused, Err(LockError::InvalidName(_))), "{refused:?}");
        }
        assert!(key("distributed-lock:", "distributed-lock/1:{x", Mode::Shared).is_ok());
    }
}
