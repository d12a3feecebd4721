//! What the tasks of a walk have brought, and what follows from it.

use std::sync::Arc;

use distributed_lock_core::clock::{Clock, Moment};
use distributed_lock_core::driver::{Driver, Extension, Granted};
use distributed_lock_core::error::{LockError, LockResult};
use tokio::task::JoinHandle;

use super::Subject;
use super::contender::{Stage, ended};
use super::mutant::Wrong;
use super::world::{Client, World};

impl<S: Subject> World<'_, S> {
    /// Looks at the tasks that have ended; `true` if others were started.
    pub(super) fn harvest(&mut self) -> Result<bool, String> {
        let (mut started, now) = (false, self.clock.now());
        for index in 0..self.contenders.len() {
            if let Some(result) = ended(&mut self.contenders[index].acquiring) {
                started |= self.acquired(index, result)?;
            }
            if let Some(result) = ended(&mut self.contenders[index].cleaning) {
                self.say(|_| format!("  {index} cleaned up: {result:?}"));
                let contender = &mut self.contenders[index];
                contender.stage = match &result {
                    Ok(()) | Err(LockError::LockLost(_)) => Stage::Done,
                    Err(_) => Stage::Abandoned,
                };
                self.lost_without_cause(index, &result)?;
            }
            if let Some(result) = ended(&mut self.contenders[index].drawing) {
                self.drew(index, result)?;
            }
            let contender = &self.contenders[index];
            if contender.stage == Stage::Held && now >= contender.deadline {
                self.say(|_| format!("  {index} has run out"));
                self.release(index);
                started = true;
            }
        }
        for client in 0..self.clients.len() {
            for (held, result) in self.clients[client].extended() {
                started |= self.extended(&held, result)?;
            }
        }
        Ok(started)
    }

    fn acquired(
        &mut self,
        index: usize,
        result: LockResult<Option<Granted<<S::Driver as Driver>::Grant>>>,
    ) -> Result<bool, String> {
        match result {
            Ok(Some(granted)) => {
                let (now, step, wrong) = (self.clock.now(), self.step, self.wrong);
                let contender = &mut self.contenders[index];
                let sent_at = granted.lease.map_or(Moment::NEVER, |lease| lease.deadline());
                contender.deadline = match (wrong, granted.lease) {
                    (Wrong::LeaseFromReply, Some(lease)) => {
                        now.after(lease.deadline().since(lease.sent()))
                    }
                    _ => sent_at,
                };
                contender.grant = Some(Arc::new(granted.grant));
                contender.stage = Stage::Held;
                contender.held = Some((step, None));
                self.grants += 1;
                self.say(|_| format!("  {index} holds"));
                self.nobody_was_overtaken(index)?;
                Ok(false)
            }
            result => {
                self.say(|_| format!("  {index} got {:?}", result.as_ref().map(drop)));
                self.refused_without_cause(index, result.is_ok())?;
                self.withdraw(index);
                Ok(true)
            }
        }
    }

    fn extended(
        &mut self,
        held: &[usize],
        result: LockResult<Vec<Extension>>,
    ) -> Result<bool, String> {
        let (mut started, now) = (false, self.clock.now());
        for (index, extension) in held.iter().zip(result.unwrap_or_default()) {
            let contender = &mut self.contenders[*index];
            if !contender.believes(now) {
                continue;
            }
            match extension {
                Extension::Extended(lease) => {
                    contender.deadline = contender.deadline.max(lease.deadline());
                }
                Extension::Refused(_) => {
                    if !contender.doubtful {
                        return Err(format!("{index} has lost its lock and nothing took it"));
                    }
                    self.release(*index);
                    started = true;
                }
                Extension::Unknown(_) => {}
            }
        }
        Ok(started)
    }
}

impl<D: Driver> Client<D> {
    /// The batches that were answered.
    fn extended(&mut self) -> Vec<(Vec<usize>, LockResult<Vec<Extension>>)> {
        let (done, open) =
            self.extending.drain(..).partition(|(_, task): &(_, JoinHandle<_>)| task.is_finished());
        self.extending = open;
        let done: Vec<(Vec<usize>, JoinHandle<_>)> = done;
        let take = |(held, task)| Some((held, ended(&mut Some(task))?));
        done.into_iter().filter_map(take).collect()
    }
}
