//! What about the server would break a promise: looked at once, when a provider is built.

use std::collections::HashMap;
use std::sync::Arc;

use distributed_lock_core::AttemptToken;
use distributed_lock_core::error::{LockError, LockResult};
use redis::Value;

use crate::client::Client;
use crate::failure::{ServerError, forbids};
use crate::link::{Link, ServerResult};
use crate::script::{PROBE, Run};
use crate::slot::own_tag;

/// Looks at the server and warns of what it finds. What it may not look at it does not judge.
///
/// # Errors
/// [`LockError::Unsupported`] where locks could be taken and not released.
pub(crate) async fn check(client: &Arc<Client>, key_prefix: &str) -> LockResult<()> {
    let Ok(link) = client.link().await else { return Ok(()) };
    let info = info(&link).await.unwrap_or_default();
    let permissions = missing_permissions(&link, &client.channel, key_prefix).await;
    let is_cluster = info.get("cluster_enabled").is_some_and(|enabled| enabled == "1")
        || info.get("redis_mode").is_some_and(|mode| mode == "cluster");
    if is_cluster || matches!(permissions, Permissions::OnAnotherNode) {
        return Err(LockError::Unsupported(format!(
            "{} is a node of a Redis Cluster, which is not supported here: its keys are on other nodes, \
             too. Remedy: a server that is no part of a cluster",
            client.address()
        )));
    }
    let mut findings = findings(&link, &info).await;
    match permissions {
        Permissions::NoScripts(error) => {
            return Err(LockError::Unsupported(format!(
                "{error}. This server does not run scripts, and without them no lock can be released. \
                 Remedy: do not rename or disable EVAL and EVALSHA, and use no proxy that lacks them"
            )));
        }
        Permissions::Missing(finding) => findings.push(finding),
        Permissions::Complete | Permissions::OnAnotherNode => {}
    }
    for finding in findings {
        tracing::warn!(target: "distributed_lock::redis::health", "{finding}");
    }
    Ok(())
}

/// What the user may do.
enum Permissions {
    Complete,
    /// What is missing, and the remedy.
    Missing(String),
    /// Scripts cannot be run at all, as the server says.
    NoScripts(ServerError),
    OnAnotherNode,
}

async fn findings(link: &Link, info: &HashMap<String, String>) -> Vec<String> {
    let mut findings = Vec::new();
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
    findings
}

pub(crate) async fn info(link: &Link) -> ServerResult<HashMap<String, String>> {
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

async fn missing_permissions(link: &Link, channel: &str, key_prefix: &str) -> Permissions {
    // No lock has this name: the number is drawn now.
    let Ok(number) = AttemptToken::random() else { return Permissions::Complete };
    let keys = [format!("{key_prefix}distributed-lock/1:probe:{number}")];
    let run = Run { text: &PROBE, keys: &keys, arguments: &[channel] };
    let missing = match link.run(run).await {
        Ok(Value::Array(missing)) => missing,
        Err(error) if forbids(&error) => {
            return Permissions::Missing(format!(
                "this user may not run scripts ({error}). {}",
                remedy(key_prefix)
            ));
        }
        Err(error) if error.code() == Some("MOVED") => return Permissions::OnAnotherNode,
        Err(error) if error.knows_no_scripts() => return Permissions::NoScripts(error),
        _ => return Permissions::Complete,
    };
    let name = |value: &Value| match value {
        Value::BulkString(name) => Some(String::from_utf8_lossy(name).into_owned()),
        _ => None,
    };
    let missing: Vec<String> = missing.iter().filter_map(name).collect();
    let list = missing.join(", ");
    if missing.is_empty() {
        return Permissions::Complete;
    }
    Permissions::Missing(format!("this user may not use {list}. {}", remedy(key_prefix)))
}

/// The commands that locks use.
const COMMANDS: &str = "+del +eval +evalsha +exists +get +hdel +hget +hgetall +hlen +hset +hsetnx +info \
    +mget +pexpire +ping +pttl +publish +pubsub|numsub +set +subscribe +time +type +zadd +zcount +zrange \
    +zrem +zremrangebyscore +zscore";

/// The least that a user needs, as `docs/security.md` explains it.
fn remedy(key_prefix: &str) -> String {
    // Without a hash tag in the prefix each lock's other keys have a tag of their own.
    let tag = own_tag(key_prefix).map(|tag| format!("{{{tag}}}:")).unwrap_or_default();
    format!(
        "Remedy: ACL SETUSER <user> ~{key_prefix}* ~distributed-lock/1:{tag}* \
         &distributed-lock/1:process:* {COMMANDS}"
    )
}
