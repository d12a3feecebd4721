//! Redis by URL, without the feature.

use distributed_lock_core::DynLockProvider;
use distributed_lock_core::error::{LockError, LockResult};
use url::Url;

use super::options::UrlOptions;

pub(super) fn other_servers(urls: &str) -> (Vec<&str>, &str) {
    (Vec::new(), urls)
}

pub(super) async fn connect(
    _others: Vec<&str>,
    url: &Url,
    _options: UrlOptions,
) -> LockResult<DynLockProvider> {
    let scheme = url.scheme();
    Err(LockError::Config(format!("{scheme}:// needs the feature `redis` of distributed-lock")))
}
