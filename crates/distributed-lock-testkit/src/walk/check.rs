//! What must be true after each step.

use distributed_lock_core::clock::Clock;
use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_core::{FencingToken, Mode};

use super::Subject;
use super::contender::{Contender, Stage};
use super::server::{Executed, Server};
use super::state::State;
use super::world::{Verdict, World};

impl<S: Subject> World<'_, S> {
    /// No two believe to hold what excludes the other.
    pub(super) fn holders_are_apart(&self) -> Verdict {
        let now = self.clock.now();
        let believers = self.contenders.iter().enumerate();
        let believers: Vec<_> = believers.filter(|(_, c)| c.believes(now) && !c.doubtful).collect();
        let foreign = self.foreign.as_ref().is_some_and(|f| now < f.deadline && !f.doubtful);
        let numbers = || believers.iter().map(|(index, _)| *index).collect::<Vec<_>>();
        if foreign && !believers.is_empty() && self.scene.permits == 0 {
            return Err(format!("{:?} hold beside a foreign client", numbers()));
        }
        let writers = believers.iter().filter(|(_, c)| c.mode == Mode::Exclusive).count();
        if writers > 1 || writers == 1 && believers.len() > 1 {
            return Err(format!("{:?} hold at the same time", numbers()));
        }
        if self.scene.permits > 0 && believers.len() > self.scene.permits as usize {
            return Err(format!("{:?} hold {} permits", numbers(), self.scene.permits));
        }
        Ok(())
    }

    /// A server has executed a request.
    pub(super) fn observe(
        &mut self,
        server: usize,
        request: &[Vec<u8>],
        executed: &Executed,
    ) -> Verdict {
        let after = &executed.after;
        if let Some(key) = &after.endless {
            return Err(format!("the key {key} never expires"));
        }
        self.note_who_is_blocked();
        let count = self.network.executed;
        for contender in &mut self.contenders {
            if contender.asked.is_none() && names(request, &contender.token) {
                contender.asked = Some(count);
            }
            if contender.queued.is_none() && after.queue.contains(&contender.token) {
                contender.queued = Some(count);
            }
        }
        if S::SERVERS == 1 {
            self.no_ghost(after)?;
        } else {
            self.no_ghost_of_a_majority(after)?;
        }
        if S::IS_FAIR {
            self.no_dead_waiter_is_served(server, request, executed)?;
            self.note_who_is_overtaken(server, request, executed);
        }
        Ok(())
    }

    /// Remembers of those who ask that others were there.
    pub(super) fn note_who_is_blocked(&mut self) {
        for index in 0..self.contenders.len() {
            let contender = &self.contenders[index];
            if contender.stage == Stage::Acquiring && !contender.was_blocked {
                self.contenders[index].was_blocked =
                    self.is_blocked(contender.mode, &contender.token);
            }
        }
    }

    /// Whether some server has a reason to refuse.
    pub(super) fn is_blocked(&self, mode: Mode, token: &str) -> bool {
        self.network.servers.iter().any(|server| {
            let state = server.state();
            let others = state.owners(server.now()).iter().filter(|owner| *owner != token).count();
            let waits = state.queue.iter().any(|other| other != token);
            waits
                || match mode {
                    Mode::Exclusive => others > 0,
                    Mode::Shared => others > 0 && self.is_written(server),
                    // On several servers, two that come at once may keep each other from a permit.
                    Mode::Permit { .. } if S::SERVERS > 1 => others > 0,
                    Mode::Permit { max } => others >= max as usize,
                }
        })
    }

    fn is_written(&self, server: &Server) -> bool {
        let state = server.state();
        state.mutexes.iter().any(|(value, end)| !value.starts_with("r:") && *end >= server.now())
    }

    /// Nobody owns the lock who is through with it.
    fn no_ghost(&self, state: &State) -> Verdict {
        for owner in state.owners(state.now) {
            let ghost = self.contenders.iter().position(|c| c.token == owner);
            let Some(index) = ghost else { continue };
            let contender = &self.contenders[index];
            // A plain SET NX cannot see a tombstone; all others do, and pass over it.
            let is_passed_over = contender.mode == Mode::Exclusive
                && state.tombstone(&owner).is_some_and(|until| until > state.now);
            if contender.stage == Stage::Done && !is_passed_over {
                return Err(format!("{index} is through, and owns the lock"));
            }
        }
        Ok(())
    }

    /// A minority of the servers may have what is still being undone.
    fn no_ghost_of_a_majority(&self, state: &State) -> Verdict {
        for owner in state.owners(state.now) {
            let is_it = |contender: &Contender<S::Driver>| {
                contender.token == owner && contender.stage == Stage::Done
            };
            let Some(index) = self.contenders.iter().position(is_it) else { continue };
            let servers = self.network.servers.iter();
            let have_it = servers.filter(|s| s.state().owners(s.now()).contains(&owner)).count();
            if have_it > S::SERVERS / 2 {
                return Err(format!("{index} is through, and a majority has it as the owner"));
            }
        }
        Ok(())
    }

    /// The lock is handed over to those only that have ticked in time and listen.
    fn no_dead_waiter_is_served(
        &self,
        server: usize,
        request: &[Vec<u8>],
        Executed { before, after, .. }: &Executed,
    ) -> Verdict {
        let had = before.owners(after.now);
        for owner in after.owners(after.now) {
            let Some(entry) = before.entry(&owner) else { continue };
            let is_live = after.now - entry.tick <= 3 * entry.period
                && self.network.servers[server].has_listener(&entry.channel);
            if !is_live && !had.contains(&owner) && !names(request, &owner) {
                let index = self.contenders.iter().position(|c| c.token == owner);
                return Err(format!("{index:?} does not tick or listen, and was handed the lock"));
            }
        }
        Ok(())
    }

    /// Finds who became an owner although others had waited for longer.
    fn note_who_is_overtaken(
        &mut self,
        server: usize,
        request: &[Vec<u8>],
        Executed { before, after, .. }: &Executed,
    ) {
        let (had, have) = (before.owners(after.now), after.owners(after.now));
        for contender in &mut self.contenders {
            if !have.contains(&contender.token) {
                contender.overtakes = None;
            }
        }
        // A key set without a script is granted by the script that follows, or is given up there: the
        // waiter may have ended in between.
        let is_asked_again = |owner: &str| {
            let mut winners = self.contenders.iter().filter(|c| c.overtakes.is_some());
            winners.any(|c| c.token == owner) && names(request, owner)
        };
        let is_new = |owner: &&String| !had.contains(owner) || is_asked_again(owner);
        let new: Vec<String> = have.iter().filter(is_new).cloned().collect();
        for owner in new {
            let Some(winner) = self.contenders.iter().position(|c| c.token == owner) else {
                continue;
            };
            let first = self.contenders.iter().position(|waiting| {
                waiting.token != owner
                    && !have.contains(&waiting.token)
                    && self.waits_before(server, waiting, winner, before, after)
            });
            self.contenders[winner].overtakes = first;
        }
    }

    fn waits_before(
        &self,
        server: usize,
        waiting: &Contender<S::Driver>,
        winner: usize,
        before: &State,
        after: &State,
    ) -> bool {
        let winner = &self.contenders[winner];
        let excludes = waiting.mode != Mode::Shared || winner.mode != Mode::Shared;
        let is_earlier = waiting.stage == Stage::Acquiring
            && waiting.queued.zip(winner.asked).is_some_and(|(queued, asked)| queued < asked);
        let Some(entry) = before.entry(&waiting.token) else { return false };
        let is_live = before.queue.contains(&waiting.token)
            && after.now - entry.tick <= 3 * entry.period
            && self.network.servers[server].has_listener(&entry.channel);
        excludes && is_earlier && is_live && !waiting.doubtful
    }

    /// A grant to one who came later is a violation once its client believes in it.
    pub(super) fn nobody_was_overtaken(&self, index: usize) -> Verdict {
        match self.contenders[index].overtakes {
            Some(other) => Err(format!("{index} holds before {other}, which waited in time")),
            None => Ok(()),
        }
    }

    /// A try says that others hold or wait only if they do.
    pub(super) fn refused_without_cause(&self, index: usize, is_refusal: bool) -> Verdict {
        let contender = &self.contenders[index];
        if is_refusal && contender.tries && !contender.was_blocked {
            return Err(format!("{index} was refused, and nobody held or waited"));
        }
        Ok(())
    }

    /// A release finds the lock lost only if something took it.
    pub(super) fn lost_without_cause(&self, index: usize, result: &LockResult<()>) -> Verdict {
        let contender = &self.contenders[index];
        let is_lost = matches!(result, Err(LockError::LockLost(_)));
        if is_lost && !contender.doubtful && self.clock.now() < contender.deadline {
            return Err(format!("{index} was released in time, and had lost its lock"));
        }
        Ok(())
    }

    /// Of two conflicting holds the later has the greater token.
    pub(super) fn drew(&mut self, index: usize, result: LockResult<FencingToken>) -> Verdict {
        let Ok(FencingToken(token)) = result else { return Ok(()) };
        self.contenders[index].drawn = Some(token);
        let Some((began, ended)) = self.contenders[index].held else { return Ok(()) };
        for (other, contender) in self.contenders.iter().enumerate() {
            let (Some(drawn), Some((other_began, other_ended))) = (contender.drawn, contender.held)
            else {
                continue;
            };
            if other == index {
                continue;
            }
            let conflicts = contender.conflicts(self.contenders[index].mode);
            let before = other_ended.is_some_and(|end| end <= began);
            let after = ended.is_some_and(|end| end <= other_began);
            let wrong = drawn == token
                || conflicts && before && drawn > token
                || conflicts && after && drawn < token;
            if wrong {
                return Err(format!("{index} drew {token}, and {other} had drawn {drawn}"));
            }
        }
        Ok(())
    }
}

/// Whether a request has this token in one of its arguments.
fn names(request: &[Vec<u8>], token: &str) -> bool {
    let token = token.as_bytes();
    request.iter().any(|argument| argument.windows(token.len()).any(|part| part == token))
}
