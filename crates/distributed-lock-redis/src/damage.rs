//! Keys that another program has written, or that cannot be counted on any further.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use distributed_lock_core::error::{LockError, LockResult};
use redis::Value;

use crate::client::Client;
use crate::script::{REPAIR, Run};

/// Source of [`LockError::Backend`] for a key at the server that makes a lock unusable until somebody
/// removes it. Its text names the server, the key and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedKey {
    server: Arc<str>,
    key: String,
    damage: String,
}

impl DamagedKey {
    /// Host and port of the server, or the path of its socket.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for DamagedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the key {:?} {}", self.server, self.key, self.damage)
    }
}

impl Error for DamagedKey {}

/// Removes keys of another type, where no holder depends on them. The keys are those of one resource, its
/// counter last.
///
/// # Errors
/// [`LockError::Backend`] with a [`DamagedKey`] if others are left, and what a request returns.
pub(crate) async fn repair(client: &Arc<Client>, keys: &[String], code: &str) -> LockResult<()> {
    let run = Run { text: &REPAIR, keys, arguments: &[code] };
    let left = match client.run(run, |_| ()).await? {
        Value::Array(left) => left,
        _ => Vec::new(),
    };
    let [Value::BulkString(key), Value::BulkString(found), ..] = left.as_slice() else {
        return Ok(());
    };
    let (key, found) = (String::from_utf8_lossy(key), String::from_utf8_lossy(found));
    Err(damaged(
        client,
        key.into_owned(),
        format!(
            "is a {found} that another program has written, not a lock's. Remedy: DEL it, once nothing \
             needs it and no holder works under this lock"
        ),
    ))
}

/// The counter has given out the last number.
pub(crate) fn exhausted(client: &Client, counter: String) -> LockError {
    let damage = "has reached the last fencing token that there is. Remedy: DEL it, once every resource \
                  that compares tokens of this lock has forgotten them";
    damaged(client, counter, damage.into())
}

fn damaged(client: &Client, key: String, damage: String) -> LockError {
    LockError::backend(DamagedKey { server: Arc::clone(client.address()), key, damage })
}
