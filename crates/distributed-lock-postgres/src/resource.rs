//! What this process knows about one resource: requests take turns, readers share one lock at the
//! server, and a session is never asked for a permit that it has.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use distributed_lock_core::error::{LockError, LockResult};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::connection::{Borrowed, Form, Session, SessionSlot, Sessions};
use crate::driver::PostgresKey;
use crate::held::Held;
use crate::key::{self, PostgresAdvisoryLockKey};
use crate::turns::Turns;

/// How long readers may join a shared lock without asking whether a writer waits.
const FRESH_FOR: Duration = Duration::from_millis(100);

/// The resources of a provider that are shared or permitted.
#[derive(Debug, Default)]
pub(crate) struct Resources(Mutex<HashMap<PostgresKey, Weak<Resource>>>);

impl Resources {
    pub(crate) fn of(&self, key: &PostgresKey) -> Arc<Resource> {
        let mut resources = lock(&self.0);
        if let Some(resource) = resources.get(key).and_then(Weak::upgrade) {
            return resource;
        }
        // Now and then, so that names that are never used again leave nothing.
        if resources.len() == resources.capacity() {
            resources.retain(|_, resource| resource.strong_count() > 0);
        }
        let resource = Arc::new(Resource::default());
        resources.insert(key.clone(), Arc::downgrade(&resource));
        resource
    }
}

#[derive(Debug, Default)]
pub(crate) struct Resource {
    /// One request at a time: the answers of two in one session could not be told apart.
    turns: Turns,
    shared: Mutex<Option<Arc<SharedLock>>>,
    permits: Mutex<Permits>,
    /// A permit of this process was given back: its slot may be asked for again.
    given_back: Notify,
}

/// One lock at the server that all readers of this process hold together.
#[derive(Debug)]
pub(crate) struct SharedLock {
    held: Held,
    state: Mutex<Sharing>,
}

#[derive(Debug)]
struct Sharing {
    readers: usize,
    fresh_until: Instant,
}

/// What a semaphore's slots are called, and which of them this process holds.
#[derive(Debug, Default)]
struct Permits {
    slots: Vec<i64>,
    held: HashSet<i64>,
}

impl Permits {
    /// Computes the keys of the first slots, once.
    fn know(&mut self, name: &str, max: u32) {
        let known = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.extend((known..max).map(|slot| key::slot(name, slot)));
    }

    fn slots_below(&self, max: u32) -> &[i64] {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        &self.slots[..max.min(self.slots.len())]
    }
}

impl Resource {
    /// What a shared lock without waiting needs first; nothing is asked for yet. May be dropped.
    pub(crate) async fn prepare_read(
        self: &Arc<Self>,
        sessions: &Arc<Sessions>,
        key: PostgresAdvisoryLockKey,
    ) -> LockResult<ReadRequest> {
        let Some(shared) = self.living() else {
            let slot = sessions.slot().await?;
            slot.session().prepare_try(key, Form::Shared).await?;
            return Ok(ReadRequest::Lock(slot));
        };
        if shared.is_fresh() {
            return Ok(ReadRequest::Join);
        }
        // The session that has it would pass writers that wait; another does not.
        let other = sessions.beside(Some(shared.held.session())).await?;
        other.prepare_probe(key, Form::Shared).await?;
        Ok(ReadRequest::Probe(other, shared))
    }

    /// A shared lock without waiting: an own reader's, if no writer waits for it, or a new one.
    pub(crate) fn read(
        self: &Arc<Self>,
        key: PostgresAdvisoryLockKey,
        request: ReadRequest,
    ) -> impl Future<Output = LockResult<Read>> + Send + use<> {
        let resource = Arc::clone(self);
        self.turns.in_turn(async move {
            let living = resource.living();
            match (request, living) {
                (_, Some(shared)) if shared.is_fresh() => Ok(resource.join(shared)),
                (ReadRequest::Probe(other, probed), Some(shared))
                    if Arc::ptr_eq(&probed, &shared) =>
                {
                    if !other.probe(key, Form::Shared).await? {
                        return Ok(Read::Refused);
                    }
                    shared.refresh();
                    Ok(resource.join(shared))
                }
                (ReadRequest::Lock(slot), None) => {
                    if !slot.session().try_lock(key, Form::Shared).await? {
                        return Ok(Read::Refused);
                    }
                    let held = Held::new(slot, key, Form::Shared);
                    Ok(Read::Granted(resource.first_reader(held)))
                }
                _ => Ok(Read::Changed),
            }
        })
    }

    /// The first reader of a lock that was just granted.
    pub(crate) fn first_reader(self: &Arc<Self>, held: Held) -> Reader {
        let state = Sharing { readers: 1, fresh_until: Instant::now() + FRESH_FOR };
        let shared = Arc::new(SharedLock { held, state: Mutex::new(state) });
        *lock(&self.shared) = Some(Arc::clone(&shared));
        Reader { resource: Arc::clone(self), shared, has_left: Mutex::new(false) }
    }

    /// The lock that readers of this process have, while its session lives.
    fn living(&self) -> Option<Arc<SharedLock>> {
        lock(&self.shared).clone().filter(|shared| shared.held.session().is_alive())
    }

    /// One more reader, unless the last has left meanwhile.
    fn join(self: &Arc<Self>, shared: Arc<SharedLock>) -> Read {
        let mut state = lock(&shared.state);
        if state.readers == 0 {
            return Read::Changed;
        }
        state.readers += 1;
        drop(state);
        Read::Granted(Reader { resource: Arc::clone(self), shared, has_left: Mutex::new(false) })
    }

    /// A permit without waiting, whichever is free, for a session that has prepared its scan.
    pub(crate) fn try_permit(
        self: &Arc<Self>,
        slot: SessionSlot,
        (name, queue): (&Arc<str>, i64),
        max: u32,
    ) -> impl Future<Output = LockResult<Option<Permit>>> + Send + use<> {
        let (resource, name) = (Arc::clone(self), Arc::clone(name));
        self.turns.in_turn(async move {
            let candidates = resource.candidates(&name, max);
            if candidates.is_empty() {
                return Ok(None);
            }
            let Some(key) = slot.session().scan(&candidates).await? else { return Ok(None) };
            let held = Held::new(slot, PostgresAdvisoryLockKey::Single(key), Form::Exclusive);
            Ok(Some(resource.permit(held, key, queue)))
        })
    }

    /// Whether this process holds all permits itself, so that none need be asked for.
    pub(crate) fn holds_all(&self, name: &str, max: u32) -> bool {
        let mut permits = lock(&self.permits);
        permits.know(name, max);
        permits.slots_below(max).iter().all(|slot| permits.held.contains(slot))
    }

    /// The permit of a slot that was just locked.
    pub(crate) fn permit(self: &Arc<Self>, held: Held, slot: i64, queue: i64) -> Permit {
        lock(&self.permits).held.insert(slot);
        let is_listed = AtomicBool::new(true);
        Permit { held, resource: Arc::clone(self), slot, queue, is_listed }
    }

    /// Completes when a permit of this process was given back. The server's notification of that may
    /// come earlier, when the slot is still left out of scans.
    pub(crate) async fn given_back(&self) {
        self.given_back.notified().await;
    }

    /// One of the slots, at random.
    pub(crate) fn any_slot(&self, name: &str, max: u32) -> i64 {
        key::slot(name, random_below(max))
    }

    /// The slots that this process does not hold, from a random one on, so that processes do not
    /// meet at the first.
    pub(crate) fn candidates(&self, name: &str, max: u32) -> Vec<i64> {
        let mut permits = lock(&self.permits);
        permits.know(name, max);
        let slots = permits.slots_below(max);
        let start = usize::try_from(random_below(max)).unwrap_or(0);
        let (later, first) = slots.split_at(start);
        let free = |slot: &&i64| !permits.held.contains(slot);
        first.iter().chain(later).filter(free).copied().collect()
    }
}

/// What was prepared for a reader.
pub(crate) enum ReadRequest {
    /// Readers of this process have the lock, and others had their chance a moment ago.
    Join,
    /// Readers of this process have the lock; this session probes whether a writer waits for it.
    Probe(Borrowed, Arc<SharedLock>),
    /// No reader of this process has the lock; it is asked for with this.
    Lock(SessionSlot),
}

/// What became of a reader's request.
pub(crate) enum Read {
    Granted(Reader),
    /// Others hold it, or come first.
    Refused,
    /// Other readers of this process came or left meanwhile: it is to be prepared anew.
    Changed,
}

impl SharedLock {
    /// Whether writers had their chance a moment ago.
    fn is_fresh(&self) -> bool {
        Instant::now() < lock(&self.state).fresh_until
    }

    fn refresh(&self) {
        lock(&self.state).fresh_until = Instant::now() + FRESH_FOR;
    }
}

/// A reader; the last to leave unlocks.
#[derive(Debug)]
pub(crate) struct Reader {
    resource: Arc<Resource>,
    shared: Arc<SharedLock>,
    has_left: Mutex<bool>,
}

impl Reader {
    pub(crate) fn session(&self) -> &Arc<Session> {
        self.shared.held.session()
    }

    /// Leaves. Called again after it was dropped half way, it waits for the unlock, if it was the
    /// last.
    pub(crate) async fn release(&self) -> LockResult<()> {
        self.session().check_held()?;
        self.leave();
        if lock(&self.shared.state).readers == 0 {
            self.shared.held.release().await
        } else {
            Ok(())
        }
    }

    fn leave(&self) {
        if std::mem::replace(&mut *lock(&self.has_left), true) {
            return;
        }
        let mut current = lock(&self.resource.shared);
        let mut state = lock(&self.shared.state);
        state.readers -= 1;
        let is_current = |shared: &Arc<SharedLock>| Arc::ptr_eq(shared, &self.shared);
        if state.readers == 0 && current.as_ref().is_some_and(is_current) {
            *current = None;
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A permit of a semaphore.
#[derive(Debug)]
pub(crate) struct Permit {
    held: Held,
    resource: Arc<Resource>,
    slot: i64,
    queue: i64,
    /// Its slot is left out of scans.
    is_listed: AtomicBool,
}

impl Permit {
    pub(crate) fn session(&self) -> &Arc<Session> {
        self.held.session()
    }

    pub(crate) async fn release(&self) -> LockResult<()> {
        let session = self.session();
        let (session, slot, queue) = (Arc::clone(session), self.slot, self.queue);
        let release = async move { session.release_permit(slot, queue).await };
        let result = self.held.release_by(release).await;
        if matches!(result, Ok(()) | Err(LockError::LockLost(_))) {
            self.unlist();
        }
        result
    }

    fn unlist(&self) {
        if self.is_listed.swap(false, Ordering::AcqRel) {
            lock(&self.resource.permits).held.remove(&self.slot);
            self.resource.given_back.notify_one();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.unlist();
    }
}

fn random_below(limit: u32) -> u32 {
    let random = RandomState::new().build_hasher().finish();
    u32::try_from(random % u64::from(limit)).unwrap_or(0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
