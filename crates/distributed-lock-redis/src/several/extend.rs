//! Extending many holds: a few requests to each server, a majority for each hold.

use std::sync::Arc;

use distributed_lock_core::driver::{Extension, Lease};
use distributed_lock_core::error::{LockError, LockResult};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::Value;

use super::{Member, QuorumGrant, Several};
use crate::driver::GONE;
use crate::extend::AT_ONCE;
use crate::redlock::renewal::{Renewal, Renewed};
use crate::redlock::servers::ServerId;
use crate::redlock::tally::Answer;
use crate::script::{EXTEND, Run};

impl Several {
    pub(crate) async fn extend(
        self: &Arc<Self>,
        grants: &[&QuorumGrant],
    ) -> LockResult<Vec<Extension>> {
        let mut begun = Renewal::begin(self.quorum, self.timing, self.now());
        let reachable = self.reachable();
        for server in self.quorum.all().without(reachable).iter() {
            begun.on_answer(server, Answer::Unknown);
        }
        let mut pending = reachable;
        let mut renewals = vec![begun; grants.len()];
        let mut results: Vec<Option<Renewed>> = vec![None; grants.len()];
        let members = self.members.iter().filter(|member| reachable.contains(member.id));
        let mut asked: FuturesUnordered<_> =
            members.map(|member| self.extend_on(member, grants)).collect();
        let mut patience = self.patience();
        while results.iter().any(Option::is_none) {
            tokio::select! {
                biased;
                Some((server, answers)) = asked.next() => {
                    pending.remove(server);
                    for ((renewal, result), answer) in
                        renewals.iter_mut().zip(&mut results).zip(answers)
                    {
                        *result = result.or(renewal.on_answer(server, answer));
                    }
                }
                () = patience.is_over(pending) => {
                    self.are_silent(pending);
                    for (renewal, result) in renewals.iter_mut().zip(&mut results) {
                        *result = result.or(renewal.on_tick(self.now().max(renewal.wake_at())));
                    }
                }
            }
        }
        let outcome = |(grant, result): (&&QuorumGrant, Option<Renewed>)| match result {
            Some(Renewed::Extended(lease)) => self.extended(grant, lease),
            Some(Renewed::Refused) => Extension::Refused(GONE.into()),
            Some(Renewed::Unknown) | None => Extension::Unknown(self.too_few()),
        };
        Ok(grants.iter().zip(results).map(outcome).collect())
    }

    fn extended(&self, grant: &QuorumGrant, lease: Lease) -> Extension {
        grant.extend_to(lease.deadline());
        Extension::Extended(lease)
    }

    async fn extend_on(&self, member: &Member, grants: &[&QuorumGrant]) -> (ServerId, Vec<Answer>) {
        let mut answers = Vec::with_capacity(grants.len());
        for some in grants.chunks(AT_ONCE) {
            match self.extend_some(member, some).await {
                Ok(extended) => answers.extend(extended),
                Err(error) => {
                    tracing::debug!(server = member.id.0 + 1, %error, "extension not answered");
                    break;
                }
            }
        }
        answers.resize(grants.len(), Answer::Unknown);
        (member.id, answers)
    }

    async fn extend_some(
        &self,
        member: &Member,
        grants: &[&QuorumGrant],
    ) -> LockResult<Vec<Answer>> {
        let mut keys = Vec::with_capacity(grants.len() * 3);
        let mut arguments = vec![self.options.expiry_ms.as_str()];
        for grant in grants {
            let ballot = &grant.ballot;
            let [holders, _, _, mutex, written, counter] = ballot.keys.as_slice() else { continue };
            match ballot.code {
                "x" => keys.extend([mutex.clone(), written.clone(), counter.clone()]),
                _ => keys.extend([holders.clone(), mutex.clone()]),
            }
            arguments.extend([ballot.code, ballot.owner.as_str()]);
        }
        let run = Run { text: &EXTEND, keys: &keys, arguments: &arguments };
        let reply = self.run(member, run, |_| ()).await?;
        let Value::Array(outcomes) = reply else {
            return Err(LockError::backend("an extension was answered with something else"));
        };
        let answer = |outcome: &Value| match outcome {
            Value::Int(1) => Answer::Yes,
            _ => Answer::No,
        };
        Ok(outcomes.iter().map(answer).collect())
    }
}
