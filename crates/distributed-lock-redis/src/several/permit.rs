//! A permit is one of `max` mutexes. Counting on each server would not do: of three servers with two
//! permits each, three holders find two that have one left.

use std::sync::Arc;

use distributed_lock_core::error::LockResult;
use redis::{Cmd, Value};

use super::Several;
use super::acquire::{Outcome, QuorumAttempt, random};
use super::failures::Failures;
use super::fanout::{Fanout, Reply};
use crate::driver::unexpected;
use crate::failure::lock_error;
use crate::redlock::servers::ServerId;

/// How many mutexes one request looks at.
const AT_ONCE: u32 = 512;

impl Several {
    /// Tries a permit at random, which is free if few are held; then those that are free.
    pub(super) async fn try_permit(
        self: &Arc<Self>,
        attempt: &mut QuorumAttempt,
        max: u32,
    ) -> LockResult<Outcome> {
        let random = random()?;
        let first = u32::try_from(random % u64::from(max.max(1))).unwrap_or(0);
        match self.round(attempt, Some(first)).await? {
            Outcome::Held if max > 1 => {}
            outcome => return Ok(outcome),
        }
        let chunks = max.div_ceil(AT_ONCE);
        for chunk in 0..chunks {
            // Beginning where the random one was, so that contenders spread.
            let from = (first / AT_ONCE + chunk) % chunks * AT_ONCE;
            let slots: Vec<u32> = (from..max.min(from + AT_ONCE)).collect();
            let free = self.free(attempt, &slots).await?;
            if free.is_empty() {
                continue;
            }
            let pick = usize::try_from(random >> 32).unwrap_or(0) % free.len();
            match self.round(attempt, Some(free[pick])).await? {
                // Somebody else was faster: another may be free.
                Outcome::Held => return Ok(Outcome::Split(self.now())),
                outcome => return Ok(outcome),
            }
        }
        Ok(Outcome::Held)
    }

    /// Which of these are free on so many servers that they may be won.
    async fn free(
        self: &Arc<Self>,
        attempt: &QuorumAttempt,
        slots: &[u32],
    ) -> LockResult<Vec<u32>> {
        let mut command = redis::cmd("MGET");
        command.arg(slots.iter().map(|slot| attempt.key.slot(*slot)).collect::<Vec<_>>());
        let command = Arc::new(command);
        let mut fanout = Fanout::new(self);
        for server in self.reachable().iter() {
            fanout.ask(server, Arc::clone(self).look(server, Arc::clone(&command)));
        }
        let mut free = vec![0_usize; slots.len()];
        let (mut answered, mut failures) = (0, Failures::default());
        while answered < self.quorum.majority() && !fanout.pending().is_empty() {
            match fanout.next().await {
                Reply::Answer(_, Ok(Value::Array(values))) => {
                    answered += 1;
                    for (count, value) in free.iter_mut().zip(values) {
                        *count += usize::from(value == Value::Nil);
                    }
                }
                Reply::Answer(server, Ok(_)) => failures.add(server, unexpected()),
                Reply::Answer(server, Err(error)) => failures.add(server, error),
                Reply::Silence => break,
            }
        }
        if answered < self.quorum.majority() {
            return Err(failures.error(self));
        }
        // All who were asked must have it free, or a majority could not be won for certain.
        let is_free = |(slot, count): (&u32, &usize)| (*count >= answered).then_some(*slot);
        Ok(slots.iter().zip(&free).filter_map(is_free).collect())
    }

    async fn look(
        self: Arc<Self>,
        server: ServerId,
        command: Arc<Cmd>,
    ) -> (ServerId, LockResult<Value>) {
        let reply = match self.member(server).link().await {
            Ok(link) => link.call(&command).await.map_err(lock_error),
            Err(error) => Err(error),
        };
        (server, reply)
    }
}
