//! Extending many holds: a few requests to each server, a majority for each hold.

use std::sync::Arc;

use distributed_lock_core::driver::{Extension, Lease};
use distributed_lock_core::error::{LockError, LockResult};
use redis::Value;

use super::failures::Failures;
use super::fanout::{Fanout, Reply};
use super::vote::Account;
use super::{Member, QuorumGrant, Several};
use crate::driver::{GONE, unexpected};
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
        let mut renewals = vec![begun; grants.len()];
        let mut results: Vec<Option<Renewed>> = vec![None; grants.len()];
        let batches: Arc<[_]> = grants
            .chunks(AT_ONCE)
            .map(|some| Extending::new(some, &self.options.expiry_ms))
            .collect();
        let (mut fanout, mut failures) = (Fanout::new(self), Failures::default());
        for server in reachable.iter() {
            fanout.ask(server, Arc::clone(self).extend_on(server, Arc::clone(&batches)));
        }
        while results.iter().any(Option::is_none) {
            match fanout.next().await {
                Reply::Answer(server, (answers, failure)) => {
                    failure.into_iter().for_each(|error| failures.add(server, error));
                    for ((renewal, result), answer) in
                        renewals.iter_mut().zip(&mut results).zip(answers)
                    {
                        *result = result.or(renewal.on_answer(server, answer));
                    }
                }
                Reply::Silence => {
                    for (renewal, result) in renewals.iter_mut().zip(&mut results) {
                        *result = result.or(renewal.on_tick(self.now().max(renewal.wake_at())));
                    }
                }
            }
        }
        let is_missing = |renewal: &Renewal| !renewal.missing().is_empty();
        if !fanout.pending().is_empty() || renewals.iter().any(is_missing) {
            let requests = |(grant, result): (&&QuorumGrant, &Option<Renewed>)| {
                matches!(result, Some(Renewed::Extended(_))).then(|| Arc::clone(&grant.requests))
            };
            let extended = grants.iter().zip(&results).map(requests).collect();
            drop(tokio::spawn(Arc::clone(self).regain(fanout, renewals, extended)));
        }
        let outcome = |(grant, result): (&&QuorumGrant, Option<Renewed>)| match result {
            Some(Renewed::Extended(lease)) => self.extended(grant, lease),
            Some(Renewed::Refused) => Extension::Refused(GONE.into()),
            Some(Renewed::Unknown) | None => Extension::Unknown(failures.error(self)),
        };
        Ok(grants.iter().zip(results).map(outcome).collect())
    }

    fn extended(&self, grant: &QuorumGrant, lease: Lease) -> Extension {
        grant.extend_to(lease.deadline());
        Extension::Extended(lease)
    }

    async fn extend_on(
        self: Arc<Self>,
        server: ServerId,
        batches: Arc<[Extending]>,
    ) -> (ServerId, Extended) {
        let (mut answers, mut failure) = (Vec::new(), None);
        for request in batches.iter() {
            match self.extend_some(self.member(server), request).await {
                Ok(extended) => answers.extend(extended),
                Err(error) => {
                    tracing::debug!(server = server.0 + 1, %error, "extension not answered");
                    let is_silent = matches!(error, LockError::Connection(_));
                    failure = Some(error);
                    if is_silent {
                        break;
                    }
                    // The others may be extended.
                    answers.extend(std::iter::repeat_n(Answer::Unknown, request.count));
                }
            }
        }
        answers.resize(batches.iter().map(|request| request.count).sum(), Answer::Unknown);
        (server, (answers, failure))
    }

    async fn extend_some(&self, member: &Member, request: &Extending) -> LockResult<Vec<Answer>> {
        let arguments: Vec<_> = request.arguments.iter().map(String::as_str).collect();
        let run = Run { text: &EXTEND, keys: &request.keys, arguments: &arguments };
        let reply = self.request(member, run, Account::NoVote).await?.0;
        let outcomes = match reply {
            Value::Array(outcomes) if outcomes.len() == request.count => outcomes,
            _ => return Err(unexpected()),
        };
        let answer = |outcome: &Value| match outcome {
            Value::Int(1) => Answer::Yes,
            Value::Int(0) => Answer::No,
            // The server could not look at this lock.
            _ => Answer::Unknown,
        };
        Ok(outcomes.iter().map(answer).collect())
    }
}

/// The answers of one server, and why it does not answer for all.
pub(super) type Extended = (Vec<Answer>, Option<LockError>);

/// A request that extends some holds, the same for every server.
struct Extending {
    keys: Vec<String>,
    arguments: Vec<String>,
    count: usize,
}

impl Extending {
    fn new(grants: &[&QuorumGrant], lease_ms: &str) -> Self {
        let (mut keys, mut arguments) = (Vec::new(), vec![lease_ms.to_owned()]);
        for grant in grants {
            let requests = &grant.requests;
            let [mutex, _, written] = requests.key.mutex_on_each(requests.slot);
            match requests.code {
                "x" => keys.extend([mutex, written, requests.key.counter()]),
                _ => keys.extend([requests.key.holders(), mutex]),
            }
            arguments.extend([requests.code.to_owned(), requests.owner.clone()]);
        }
        Self { keys, arguments, count: grants.len() }
    }
}
