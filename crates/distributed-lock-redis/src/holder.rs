//! Who holds a resource, as far as its keys say.

use std::sync::Arc;

use distributed_lock_core::Holder;
use distributed_lock_core::error::LockResult;
use redis::Value;

use crate::client::Client;
use crate::failure::lock_error;
use crate::key::RedisKey;

/// One of those who hold it: its label is all that the server knows.
pub(crate) async fn of(client: &Arc<Client>, key: &RedisKey) -> LockResult<Option<Holder>> {
    let link = client.link().await?;
    if !key.is_semaphore() {
        let mutex = link.call(redis::cmd("GET").arg(key.mutex())).await.map_err(lock_error)?;
        let Some(owner) = text(&mutex) else { return Ok(None) };
        if !owner.starts_with("r:") {
            return Ok(Some(labelled(owner.split_once(' '))));
        }
    }
    let last = redis::cmd("ZRANGE").arg(key.holders()).arg(-1).arg(-1).to_owned();
    let last = link.call(&last).await.map_err(lock_error)?;
    let Value::Array(members) = last else { return Ok(None) };
    let member = members.first().and_then(text);
    // The token, the lease, the label.
    Ok(member.map(|member| labelled(member.splitn(3, ' ').nth(2).map(|label| ("", label)))))
}

fn labelled(parts: Option<(&str, &str)>) -> Holder {
    let mut holder = Holder::default();
    holder.label = parts.map(|(_, label)| label.to_owned());
    holder
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
