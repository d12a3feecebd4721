//! Redis by URL.

use distributed_lock_core::DynLockProvider;
use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_redis::{RedisLockProvider, RedisProtocol};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::options::UrlOptions;

/// The servers before the last, which has the options: a comma followed by a scheme separates them.
pub(super) fn other_servers(urls: &str) -> (Vec<&str>, &str) {
    let mut servers = Vec::new();
    let mut rest = urls;
    let next = |text: &str| {
        let starts = [",redis://", ",rediss://", ",unix://"];
        starts.iter().filter_map(|start| text.find(start)).min()
    };
    while let Some(comma) = next(rest) {
        servers.push(&rest[..comma]);
        rest = &rest[comma + 1..];
    }
    (servers, rest)
}

pub(super) async fn connect(others: Vec<&str>, last: &str) -> LockResult<DynLockProvider> {
    let mut builder = RedisLockProvider::builder();
    for (number, url) in others.into_iter().enumerate() {
        let (server, options) = server(url)?;
        if let Some(name) = options.unread() {
            return Err(LockError::Config(format!(
                "option {name} is on URL {} of several, where it is not read; options stand on the last",
                number + 1
            )));
        }
        builder = builder.add_server(server);
    }
    let (server, mut options) = server(last)?;
    builder = builder.add_server(server);
    if let Some(expiry) = options.duration("expiry")? {
        builder = builder.expiry(expiry);
    }
    if let Some(cadence) = options.duration("extension_cadence")? {
        builder = builder.extension_cadence(cadence);
    }
    if let Some(validity) = options.duration("min_validity")? {
        builder = builder.min_validity(validity);
    }
    if let Some(guard) = options.duration("restart_guard")? {
        builder = builder.restart_guard(guard);
    }
    if let Some(most) = options.duration("max_hold")? {
        builder = builder.max_hold(most);
    }
    if let Some(on) = options.switch("auto_extend")? {
        builder = builder.auto_extend(on);
    }
    if let Some(timeout) = options.duration("operation_timeout")? {
        builder = builder.operation_timeout(timeout);
    }
    if let Some(prefix) = options.text("key_prefix") {
        builder = builder.key_prefix(prefix);
    }
    if let Some(label) = options.text("owner_label") {
        builder = builder.owner_label(label);
    }
    let version = |text: &str| match text {
        "auto" => Some(RedisProtocol::Auto),
        "resp2" => Some(RedisProtocol::Resp2),
        "resp3" => Some(RedisProtocol::Resp3),
        _ => None,
    };
    if let Some(protocol) = options.parsed("protocol", "auto, resp2 or resp3", version)? {
        builder = builder.protocol(protocol);
    }
    if let Some(on) = options.switch("keeper_thread")? {
        builder = builder.keeper_thread(on);
    }
    options.finish()?;
    Ok(DynLockProvider::new(builder.build().await?))
}

/// A server's own URL, and the options that it carries besides.
fn server(url: &str) -> LockResult<(String, UrlOptions)> {
    let (server, query) = url.split_once('?').unwrap_or((url, ""));
    if url.contains('#') {
        return Err(LockError::Config("what follows a # is not used; write it as %23".into()));
    }
    let (mut server, mut options) = (server.to_owned(), UrlOptions::of(query)?);
    if server.starts_with("unix:") {
        let mut separator = '?';
        for name in ["db", "user", "pass"] {
            if let Some(value) = options.text(name) {
                let value = utf8_percent_encode(&value, NON_ALPHANUMERIC);
                server.push_str(&format!("{separator}{name}={value}"));
                separator = '&';
            }
        }
    }
    Ok((server, options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_split_where_a_comma_is_followed_by_a_scheme() {
        assert_eq!(other_servers("redis://a/?x=1,2"), (vec![], "redis://a/?x=1,2"));
        assert_eq!(
            other_servers("redis://a,rediss://b:1,unix:///c?expiry=1s"),
            (vec!["redis://a", "rediss://b:1"], "unix:///c?expiry=1s")
        );
        assert_eq!(other_servers("file:///a,b"), (vec![], "file:///a,b"));
    }
}
