//! The shared state of in-memory locks, and the switches that make it fail.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Moment;
use crate::driver::LossReporter;
use crate::error::{LockError, LockResult};
use crate::mode::Mode;
use crate::runtime::require_timers;
use crate::token::{AttemptToken, FencingToken};

/// How a [`MemoryStore`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Behaviour {
    /// At once.
    #[default]
    Prompt,
    /// Every request is refused with [`LockError::Backend`] and has no effect.
    Refuse,
    /// Requests are not answered and have no effect until this changes.
    Hang,
    /// Requests take effect at once and are answered this much later.
    AnswerLate(Duration),
}

/// The state that in-memory providers share: their "server". Clones are the same store.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Told when the behaviour changes.
    behaves: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    resources: HashMap<String, HashMap<AttemptToken, Entry>>,
    /// How many writers wait: readers let them go first.
    writers: HashMap<String, usize>,
    /// For each resource that is waited for: told of every change, so that those who wait see each one,
    /// also one that came before they looked.
    changes: HashMap<String, watch::Sender<()>>,
    behaviour: Behaviour,
    last_token: u64,
    /// Attempts that were withdrawn while requests of theirs were on their way, and when, in that order.
    withdrawn: VecDeque<(AttemptToken, Moment)>,
}

/// For how long a request of a withdrawn attempt that comes late finds that it was withdrawn.
const TOMBSTONE: Duration = Duration::from_secs(60);

struct Entry {
    mode: Mode,
    expires: Moment,
    loss: LossReporter,
}

impl MemoryStore {
    /// A new store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The store of this name in this process, made when it is first asked for.
    #[must_use]
    pub fn named(name: &str) -> Self {
        static STORES: OnceLock<Mutex<HashMap<String, MemoryStore>>> = OnceLock::new();
        let stores = STORES.get_or_init(Mutex::default);
        let mut stores = stores.lock().unwrap_or_else(PoisonError::into_inner);
        stores.entry(name.to_owned()).or_default().clone()
    }

    /// Sets how requests are answered from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        let mut state = self.lock();
        state.behaviour = behaviour;
        state.changes.values().for_each(|changes| changes.send_replace(()));
        drop(state);
        self.0.behaves.send_replace(());
    }

    /// Takes a lock of this name from all who hold it, readers and writers, and tells them.
    pub fn lose(&self, name: &str) {
        let key = format!("lock:{name}");
        let lost = self.lock().resources.remove(&key);
        for entry in lost.into_iter().flatten() {
            entry.1.loss.lost("the store was told to lose it");
        }
        self.lock().changed(&key);
    }

    /// How many holds there are of all names.
    #[must_use]
    pub fn holds(&self) -> usize {
        self.lock().resources.values().map(HashMap::len).sum()
    }

    /// Takes a lock if it is free, or held by the same attempt, whose answer was lost.
    ///
    /// # Errors
    /// If it is not, with what hears of every change from now on.
    pub(super) fn take(
        &self,
        (key, id): (&str, AttemptToken),
        mode: Mode,
        now: Moment,
        expires: Moment,
        loss: &LossReporter,
    ) -> Result<(), watch::Receiver<()>> {
        let mut state = self.lock();
        if state.withdrawn.iter().any(|(withdrawn, _)| *withdrawn == id) {
            return Err(state.changes.entry(key.to_owned()).or_default().subscribe());
        }
        let writers_wait = state.writers.contains_key(key);
        let entries = state.resources.entry(key.to_owned()).or_default();
        entries.retain(|_, entry| entry.expires > now);
        let free = match mode {
            Mode::Exclusive => entries.is_empty(),
            Mode::Shared if writers_wait => false,
            Mode::Shared => entries.values().all(|entry| entry.mode == Mode::Shared),
            Mode::Permit { max } => u32::try_from(entries.len()).is_ok_and(|held| held < max),
        };
        let free = free || entries.contains_key(&id);
        if free {
            entries.insert(id, Entry { mode, expires, loss: loss.clone() });
            return Ok(());
        }
        if entries.is_empty() {
            state.resources.remove(key);
        }
        Err(state.changes.entry(key.to_owned()).or_default().subscribe())
    }

    /// Moves the end of some holds; `false` for each that is gone.
    pub(super) fn extend(
        &self,
        holds: &[(String, AttemptToken)],
        now: Moment,
        until: Moment,
    ) -> Vec<bool> {
        let mut state = self.lock();
        let mut extend = |key: &str, id| {
            let entry = state.resources.get_mut(key)?.get_mut(id)?;
            (entry.expires > now).then(|| entry.expires = until)
        };
        holds.iter().map(|(key, id)| extend(key, id).is_some()).collect()
    }

    /// Has requests of an attempt refused that come from now on.
    pub(super) fn forbid(&self, id: AttemptToken, now: Moment) {
        let mut state = self.lock();
        while state.withdrawn.front().is_some_and(|(_, since)| now.since(*since) > TOMBSTONE) {
            state.withdrawn.pop_front();
        }
        state.withdrawn.push_back((id, now));
    }

    /// Ends a hold; `false` if it is gone.
    pub(super) fn end(&self, key: &str, id: AttemptToken) -> bool {
        let mut state = self.lock();
        let Some(entries) = state.resources.get_mut(key) else { return false };
        let ended = entries.remove(&id).is_some();
        if entries.is_empty() {
            state.resources.remove(key);
        }
        state.changed(key);
        ended
    }

    /// Draws a token for a hold, unless it is gone.
    pub(super) fn token(&self, key: &str, id: AttemptToken, now: Moment) -> Option<FencingToken> {
        let mut state = self.lock();
        state.resources.get(key)?.get(&id).filter(|entry| entry.expires > now)?;
        state.last_token += 1;
        Some(FencingToken(state.last_token))
    }

    /// Keeps readers out until it is dropped.
    pub(super) fn writer_waits(&self, key: &str) -> WaitingWriter {
        *self.lock().writers.entry(key.to_owned()).or_default() += 1;
        WaitingWriter { store: self.clone(), key: key.to_owned() }
    }

    /// Does one request as the store behaves.
    pub(super) async fn request<T>(&self, effect: impl FnOnce() -> T) -> LockResult<T> {
        let mut changes = self.0.behaves.subscribe();
        loop {
            let behaviour = self.lock().behaviour;
            match behaviour {
                Behaviour::Prompt => return Ok(effect()),
                Behaviour::Refuse => return Err(LockError::backend("the store refuses")),
                // The store keeps the sender, so this fails only when nobody is left to ask.
                Behaviour::Hang => changes.changed().await.map_err(LockError::connection)?,
                Behaviour::AnswerLate(delay) => {
                    require_timers()?;
                    let answer = effect();
                    tokio::time::sleep(delay).await;
                    return Ok(answer);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Wakes those who wait for a resource, and forgets it when nobody does.
    fn changed(&mut self, key: &str) {
        if let Some(changes) = self.changes.get(key) {
            changes.send_replace(());
            if changes.receiver_count() == 0 {
                self.changes.remove(key);
            }
        }
    }
}

/// A writer that waits, until this is dropped.
#[derive(Debug)]
pub(super) struct WaitingWriter {
    store: MemoryStore,
    key: String,
}

impl Drop for WaitingWriter {
    fn drop(&mut self) {
        let mut state = self.store.lock();
        if let Some(waiting) = state.writers.get_mut(&self.key) {
            *waiting -= 1;
            if *waiting == 0 {
                state.writers.remove(&self.key);
            }
        }
        state.changed(&self.key);
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("holds", &self.holds()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_wakes_those_who_wait_for_it_and_nobody_else() {
        let (store, loss) = (MemoryStore::new(), LossReporter::from_fn(|_| {}));
        let token = || AttemptToken::random().unwrap();
        let take = |key, id| {
            store.take((key, id), Mode::Exclusive, Moment::from_nanos(1), Moment::NEVER, &loss)
        };
        let (a, b) = (token(), token());
        assert!(take("a", a).is_ok() && take("b", b).is_ok());
        let (waits_for_a, waits_for_b) = (take("a", b).unwrap_err(), take("b", a).unwrap_err());
        assert!(store.end("a", a));
        assert!(waits_for_a.has_changed().unwrap() && !waits_for_b.has_changed().unwrap());
        drop((waits_for_a, waits_for_b));
        assert!(take("a", a).is_ok());
        assert!(store.end("a", a) && store.end("b", b));
        assert!(store.lock().changes.is_empty(), "nobody waits, and the store remembers");
    }
}
