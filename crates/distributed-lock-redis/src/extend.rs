//! Extending many leases in few requests.

use distributed_lock_core::Mode;
use distributed_lock_core::driver::{Extension, Lease};
use distributed_lock_core::error::{LockError, LockResult};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use redis::Value;

use crate::driver::{GONE, OneServer, code, unexpected};
use crate::grant::RedisGrant;
use crate::script::{EXTEND, Run};

/// How many leases one script extends: the server does nothing else for as long as that takes, some
/// 0.2 ms.
pub(crate) const AT_ONCE: usize = 200;

/// How many scripts are under way, so that the server need not wait for us between two.
const UNDER_WAY: usize = 4;

/// One outcome for each grant, in order; none for those that were not asked about because the server
/// had stopped answering.
pub(crate) async fn all(driver: &OneServer, grants: &[&RedisGrant]) -> LockResult<Vec<Extension>> {
    let mut outcomes = Vec::with_capacity(grants.len());
    let mut rest = grants.chunks(AT_ONCE);
    let mut asked = FuturesOrdered::new();
    asked.extend(rest.by_ref().take(UNDER_WAY).map(|some| at_once(driver, some)));
    for some in grants.chunks(AT_ONCE) {
        let Some(answer) = asked.next().await else { break };
        asked.extend(rest.next().map(|some| at_once(driver, some)));
        match answer {
            Ok(extended) => outcomes.extend(extended),
            Err(LockError::Backend(refused)) if some.len() == grants.len() => {
                return Err(LockError::Backend(refused));
            }
            Err(LockError::Backend(refused)) => {
                tracing::warn!(error = %refused, locks = some.len(), "extension refused");
                let unknown = || Extension::Unknown(LockError::backend("refused with others"));
                outcomes.extend(some.iter().map(|_| unknown()));
            }
            Err(error) if outcomes.is_empty() => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "extension stopped half way, will be tried again");
                break;
            }
        }
    }
    Ok(outcomes)
}

async fn at_once(driver: &OneServer, grants: &[&RedisGrant]) -> LockResult<Vec<Extension>> {
    let mut keys = Vec::with_capacity(grants.len() * 2);
    let mut owners = Vec::with_capacity(grants.len());
    for grant in grants {
        match grant.mode {
            Mode::Exclusive => {
                keys.extend([
                    grant.key.mutex().to_owned(),
                    grant.key.written(),
                    grant.key.counter(),
                ]);
            }
            Mode::Shared => keys.extend([grant.key.holders(), grant.key.mutex().to_owned()]),
            Mode::Permit { .. } => keys.push(grant.key.holders()),
        }
        owners.push((code(grant.mode).0, driver.owner(grant.mode, grant.attempt)));
    }
    let mut arguments = Vec::with_capacity(1 + grants.len() * 2);
    arguments.push(driver.options.expiry_ms.as_str());
    for (mode, owner) in &owners {
        arguments.extend([*mode, owner.as_str()]);
    }
    let run = Run { text: &EXTEND, keys: &keys, arguments: &arguments };
    let mut sent = None;
    let leaves = |_: &_| {
        sent.get_or_insert_with(|| driver.client.clock.now());
    };
    let reply = driver.client.run(run, leaves).await?;
    let (Value::Array(outcomes), Some(sent)) = (reply, sent) else { return Err(unexpected()) };
    // Outcomes belong to locks by their order.
    if outcomes.len() != grants.len() {
        return Err(unexpected());
    }
    let lease = Lease::from_request(sent, driver.options.validity);
    let outcome = |(grant, outcome): (&&RedisGrant, Value)| match outcome {
        Value::Int(1) => {
            grant.extend_to(lease.deadline());
            Extension::Extended(lease)
        }
        _ => Extension::Refused(GONE.into()),
    };
    Ok(grants.iter().zip(outcomes).map(outcome).collect())
}
