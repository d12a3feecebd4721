//! Redis by URL.

use distributed_lock_core::DynLockProvider;
use distributed_lock_core::error::LockResult;
use distributed_lock_redis::{RedisLockProvider, RedisProtocol};
use url::Url;

use super::options::UrlOptions;

/// Options of a socket's URL that are the client library's.
const OF_THE_CLIENT: [&str; 3] = ["db", "user", "pass"];

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

pub(super) async fn connect(
    others: Vec<&str>,
    url: &Url,
    mut options: UrlOptions,
) -> LockResult<DynLockProvider> {
    let mut builder = RedisLockProvider::builder();
    for server in others {
        builder = builder.add_server(server);
    }
    let mut server = url.clone();
    server.set_query(None);
    if url.scheme() == "unix" {
        for name in OF_THE_CLIENT {
            if let Some(value) = options.text(name) {
                server.query_pairs_mut().append_pair(name, &value);
            }
        }
    }
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
