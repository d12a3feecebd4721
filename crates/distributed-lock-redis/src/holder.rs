//! Who holds a resource, as far as its keys say.

use std::sync::Arc;

use distributed_lock_core::Holder;
use distributed_lock_core::error::LockResult;
use redis::{Pipeline, Value};

use crate::client::Client;
use crate::failure::lock_error;
use crate::key::RedisKey;
use crate::link::Link;

/// One of the holders: its label is all that the server knows. None is named whose lease has ended by
/// the server's clock, or whose attempt was withdrawn.
pub(crate) async fn of(client: &Arc<Client>, key: &RedisKey) -> LockResult<Option<Holder>> {
    let link = client.link().await?;
    let mut commands = Pipeline::with_capacity(3);
    commands.cmd("TIME");
    commands.cmd("ZRANGE").arg(key.holders()).arg(-1).arg(-1).arg("WITHSCORES");
    if !key.is_semaphore() {
        commands.cmd("GET").arg(key.mutex());
    }
    let Value::Array(replies) = link.call_all(&commands).await.map_err(lock_error)? else {
        return Ok(None);
    };
    let now = replies.first().and_then(milliseconds).unwrap_or(0.0);
    // The token, the lease, the label.
    let member = replies.get(1).and_then(last_member).filter(|(_, ends)| *ends > now);
    let member = member.map(|(member, _)| labelled(member.splitn(3, ' ').nth(2)));
    if key.is_semaphore() {
        return Ok(member);
    }
    let Some(owner) = replies.get(2).and_then(text) else { return Ok(None) };
    if owner.starts_with("r:") {
        return Ok(Some(member.unwrap_or_default()));
    }
    let (token, label) = match owner.split_once(' ') {
        Some((token, label)) => (token, Some(label)),
        None => (owner, None),
    };
    let is_withdrawn = is_withdrawn(&link, key, token, now).await?;
    Ok((!is_withdrawn).then(|| labelled(label)))
}

/// Whether a lock was set by a request that arrived after its attempt was withdrawn.
async fn is_withdrawn(link: &Link, key: &RedisKey, token: &str, now: f64) -> LockResult<bool> {
    let entry = link.call(redis::cmd("HGET").arg(key.waiters()).arg(token)).await;
    let until = text(&entry.map_err(lock_error)?).and_then(|entry| entry.parse::<f64>().ok());
    Ok(until.is_some_and(|until| until > now))
}

fn labelled(label: Option<&str>) -> Holder {
    let mut holder = Holder::default();
    holder.label = label.map(str::to_owned);
    holder
}

/// The server's time.
fn milliseconds(reply: &Value) -> Option<f64> {
    let Value::Array(parts) = reply else { return None };
    let [seconds, micros] = parts.as_slice() else { return None };
    Some(number(seconds)? * 1000.0 + number(micros)? / 1000.0)
}

/// The only pair of member and score; in RESP3 an array of its own.
fn last_member(reply: &Value) -> Option<(&str, f64)> {
    match reply {
        Value::Array(parts) => match parts.as_slice() {
            [pair @ Value::Array(_)] => last_member(pair),
            [member, score] => Some((text(member)?, number(score)?)),
            _ => None,
        },
        _ => None,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Double(number) => Some(*number),
        _ => text(value)?.parse().ok(),
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
