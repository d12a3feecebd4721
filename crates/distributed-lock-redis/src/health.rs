//! What about the server would break a promise, told once when a provider is built.

use std::collections::HashMap;
use std::sync::Arc;

use redis::{RedisResult, Value};

use crate::client::Client;
use crate::link::Link;
use crate::script::{PROBE, Run};

/// Looks at the server and warns of what it finds. What it may not look at it does not judge.
pub(crate) async fn report(client: &Arc<Client>, key_prefix: &str) {
    let Ok(link) = client.link().await else { return };
    for finding in findings(&link, &client.channel, key_prefix).await {
        tracing::warn!(target: "distributed_lock::redis::health", "{finding}");
    }
}

async fn findings(link: &Link, channel: &str, key_prefix: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let info = info(link).await.unwrap_or_default();
    let says = |name: &str| info.get(name).map(String::as_str);
    if let Some(policy) = says("maxmemory_policy").filter(|policy| *policy != "noeviction")
        && says("maxmemory") != Some("0")
    {
        findings.push(format!(
            "this server evicts keys when memory runs out (maxmemory-policy {policy}): a held lock can \
             disappear. Remedy: CONFIG SET maxmemory-policy noeviction, or a server of its own for locks"
        ));
    }
    if says("role") == Some("slave") {
        findings.push(
            "this server is a replica: it refuses every lock. Remedy: connect to its primary"
                .into(),
        );
    }
    if says("aof_enabled") == Some("0") && saves_nothing(link).await {
        findings.push(
            "this server keeps nothing on disk: after a crash its locks are free while their holders \
             still think they have them, until their next renewal. Remedy: CONFIG SET appendonly yes, \
             or fencing tokens, which go on increasing"
                .into(),
        );
    }
    findings.extend(missing_permissions(link, channel, key_prefix).await);
    findings
}

pub(crate) async fn info(link: &Link) -> RedisResult<HashMap<String, String>> {
    let text = match link.call(&redis::cmd("INFO")).await? {
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::VerbatimString { text, .. } => text,
        _ => return Ok(HashMap::new()),
    };
    let pair =
        |line: &str| Some((line.split_once(':')?.0.to_owned(), line.split_once(':')?.1.to_owned()));
    Ok(text.lines().filter_map(pair).collect())
}

/// Whether there are no snapshots either; a server that does not tell is not accused.
async fn saves_nothing(link: &Link) -> bool {
    let reply = link.call(redis::cmd("CONFIG").arg("GET").arg("save")).await;
    let value = match reply {
        Ok(Value::Array(parts)) => parts.into_iter().nth(1),
        Ok(Value::Map(parts)) => parts.into_iter().next().map(|(_, value)| value),
        _ => None,
    };
    matches!(value, Some(Value::BulkString(text)) if text.is_empty())
}

async fn missing_permissions(link: &Link, channel: &str, key_prefix: &str) -> Option<String> {
    let keys = [format!("{key_prefix}distributed-lock/1:probe")];
    let run = Run { text: &PROBE, keys: &keys, arguments: &[channel] };
    let missing = match link.run(run).await {
        Ok(Value::Array(missing)) => missing,
        Err(error) if error.code() == Some("NOPERM") => {
            return Some(format!(
                "this user may not run scripts ({error}). {}",
                remedy(key_prefix)
            ));
        }
        _ => return None,
    };
    let name = |value: &Value| match value {
        Value::BulkString(name) => Some(String::from_utf8_lossy(name).into_owned()),
        _ => None,
    };
    let missing: Vec<String> = missing.iter().filter_map(name).collect();
    let list = missing.join(", ");
    (!missing.is_empty()).then(|| format!("this user may not use {list}. {}", remedy(key_prefix)))
}

fn remedy(key_prefix: &str) -> String {
    format!(
        "Remedy: ACL SETUSER <user> ~{key_prefix}* ~distributed-lock/1:* &distributed-lock/1:* \
         +@connection +@read +@write +eval +evalsha +time +info +publish +subscribe +pubsub"
    )
}
