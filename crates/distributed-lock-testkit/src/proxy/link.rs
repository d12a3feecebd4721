//! What is known about one connection.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Way;

/// One connection's past.
#[derive(Debug)]
pub(super) struct Link {
    /// How often all connections had been reset when this one began.
    pub(super) resets: u64,
    to_server_is_silent: AtomicBool,
    to_client_is_silent: AtomicBool,
    /// The last bytes toward the server: a request may come in parts.
    recent: Mutex<Vec<u8>>,
}

impl Link {
    pub(super) fn new(resets: u64) -> Self {
        Self {
            resets,
            to_server_is_silent: AtomicBool::new(false),
            to_client_is_silent: AtomicBool::new(false),
            recent: Mutex::default(),
        }
    }

    fn silent(&self, way: Way) -> &AtomicBool {
        match way {
            Way::ToServer => &self.to_server_is_silent,
            Way::ToClient => &self.to_client_is_silent,
        }
    }

    /// Something has vanished that way: nothing follows it.
    pub(super) fn silence(&self, way: Way) {
        self.silent(way).store(true, Ordering::Relaxed);
    }

    pub(super) fn is_silent(&self, way: Way) -> bool {
        self.silent(way).load(Ordering::Relaxed)
    }

    /// Whether bytes toward the server have `wanted` in them, be it begun by those before.
    pub(super) fn has_seen(&self, wanted: Option<&[u8]>, bytes: &[u8]) -> bool {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(wanted) = wanted else {
            recent.clear();
            return false;
        };
        recent.extend_from_slice(bytes);
        let found = recent.windows(wanted.len()).any(|window| window == wanted);
        let enough = recent.len().saturating_sub(wanted.len() - 1);
        recent.drain(..enough);
        found
    }
}
