//! A queue at the server, for a driver that has none.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use distributed_lock_core::driver::{Attempt, Driver, Extension, Granted, WakeUp};
use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_core::{AttemptToken, FencingToken, Guarantees, LockName, Mode};
use tokio::sync::watch;
use tokio::time::Instant;

/// The places of those who wait at one server, for each key in order. Clones are the same queue.
///
/// A place ends by itself when nobody has asked for it so long: a withdrawal may be lost for good.
pub struct Queue<K> {
    places: Arc<Places<K>>,
    expiry: Duration,
}

struct Places<K> {
    lines: Mutex<HashMap<K, Line>>,
    changed: watch::Sender<()>,
}

/// Who waits, and when it last asked.
type Line = VecDeque<(AttemptToken, Instant)>;

/// Any driver, with places in a [`Queue`]: who waits takes one, the first is served, and others are
/// refused as long as there is one.
pub struct Queued<D: Driver> {
    driver: D,
    queue: Queue<D::Key>,
}

impl<D: Driver> Queued<D> {
    /// A client of `driver` that waits in `queue`.
    pub fn new(driver: D, queue: &Queue<D::Key>) -> Self {
        Self { driver, queue: queue.clone() }
    }
}

impl<D: Driver> Driver for Queued<D> {
    type Key = D::Key;
    type Place = D::Place;
    type Grant = D::Grant;

    fn resolve(&self, name: LockName<'_>, mode: Mode) -> LockResult<D::Key> {
        self.driver.resolve(name, mode)
    }

    async fn try_acquire(
        &self,
        attempt: &mut Attempt<D::Key, D::Place>,
    ) -> LockResult<Option<Granted<D::Grant>>> {
        let token = attempt.token()?;
        if self.queue.first(&attempt.key, token).is_some_and(|first| first != token) {
            return Ok(None);
        }
        let granted = self.driver.try_acquire(attempt).await?;
        if granted.is_some() {
            self.queue.leave(&attempt.key, token);
        }
        Ok(granted)
    }

    async fn wait(&self, attempt: &mut Attempt<D::Key, D::Place>) -> LockResult<WakeUp<D::Grant>> {
        let token = attempt.token()?;
        let mut changes = self.queue.places.changed.subscribe();
        if self.queue.enter(&attempt.key, token) != token {
            changes.changed().await.map_err(LockError::connection)?;
            return Ok(WakeUp::TryAgain);
        }
        let woken = self.driver.wait(attempt).await?;
        if matches!(woken, WakeUp::Granted(_)) {
            self.queue.leave(&attempt.key, token);
        }
        Ok(woken)
    }

    fn must_withdraw(&self, attempt: &Attempt<D::Key, D::Place>) -> bool {
        let queued = attempt.token().is_ok_and(|token| self.queue.has(&attempt.key, token));
        queued || self.driver.must_withdraw(attempt)
    }

    async fn withdraw(&self, attempt: &mut Attempt<D::Key, D::Place>) -> LockResult<()> {
        self.queue.leave(&attempt.key, attempt.token()?);
        self.driver.withdraw(attempt).await
    }

    async fn extend(&self, grants: &[&D::Grant]) -> LockResult<Vec<Extension>> {
        self.driver.extend(grants).await
    }

    async fn release(&self, grant: &D::Grant) -> LockResult<()> {
        self.driver.release(grant).await
    }

    fn release_now(&self, grant: &D::Grant) -> Option<LockResult<()>> {
        self.driver.release_now(grant)
    }

    async fn fencing_token(&self, grant: &D::Grant) -> LockResult<FencingToken> {
        self.driver.fencing_token(grant).await
    }

    fn guarantees(&self) -> Guarantees {
        self.driver.guarantees()
    }

    fn fallback_period(&self) -> Duration {
        self.driver.fallback_period()
    }

    fn extension_cadence(&self) -> Option<Duration> {
        self.driver.extension_cadence()
    }
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// An empty queue whose places end when nobody has asked for them for `expiry`.
    #[must_use]
    pub fn new(expiry: Duration) -> Self {
        let places = Places { lines: Mutex::default(), changed: watch::Sender::new(()) };
        Self { places: Arc::new(places), expiry }
    }

    /// The first of a line after this one has entered it.
    fn enter(&self, key: &K, token: AttemptToken) -> AttemptToken {
        if !self.has(key, token) {
            let place = (token, Instant::now());
            self.lines().entry(key.clone()).or_default().push_back(place);
        }
        self.first(key, token).unwrap_or(token)
    }

    /// The first of a line, which this one asks for.
    fn first(&self, key: &K, token: AttemptToken) -> Option<AttemptToken> {
        let (now, mut lines) = (Instant::now(), self.lines());
        let line = lines.get_mut(key)?;
        for (place, asked) in line.iter_mut() {
            if *place == token {
                *asked = now;
            }
        }
        line.retain(|(_, asked)| now - *asked < self.expiry);
        line.front().map(|(first, _)| *first)
    }

    fn has(&self, key: &K, token: AttemptToken) -> bool {
        self.lines().get(key).is_some_and(|line| line.iter().any(|(place, _)| *place == token))
    }

    fn leave(&self, key: &K, token: AttemptToken) {
        let mut lines = self.lines();
        if let Some(line) = lines.get_mut(key) {
            line.retain(|(place, _)| *place != token);
            if line.is_empty() {
                lines.remove(key);
            }
        }
        drop(lines);
        self.places.changed.send_replace(());
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<K, Line>> {
        self.places.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self { places: Arc::clone(&self.places), expiry: self.expiry }
    }
}

impl<K> fmt::Debug for Queue<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("expiry", &self.expiry).finish_non_exhaustive()
    }
}

impl<D: Driver + fmt::Debug> fmt::Debug for Queued<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queued").field("driver", &self.driver).finish_non_exhaustive()
    }
}
