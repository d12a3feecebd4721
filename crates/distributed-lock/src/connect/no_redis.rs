//! Redis by URL, without the feature.

use distributed_lock_core::DynLockProvider;
use distributed_lock_core::error::{LockError, LockResult};

pub(super) fn other_servers(urls: &str) -> (Vec<&str>, &str) {
    (Vec::new(), urls)
}

pub(super) async fn connect(_others: Vec<&str>, url: &str) -> LockResult<DynLockProvider> {
    let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
    Err(LockError::Config(format!("{scheme}:// needs the feature `redis` of distributed-lock")))
}
