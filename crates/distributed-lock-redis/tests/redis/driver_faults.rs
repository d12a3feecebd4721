//! The engine over a real server whose driver is made to fail: every call, every outcome.
//!
//! The engine's clock is paused, so that no case takes longer than its requests do; it stands still
//! while one is under way. The server's clock goes on, so leases do not end here but in other tests.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use distributed_lock_core::clock::{Clock, Moment, SystemClock};
use distributed_lock_core::driver::{Attempt, Driver, Extension, Granted, WakeUp};
use distributed_lock_core::error::LockResult;
use distributed_lock_core::{AttemptToken, FencingToken, Guarantees, LockName, Mode};
use distributed_lock_redis::{RedisDriver, RedisLockProvider, redis};
use distributed_lock_testkit::faults::{Store, exhaustive, leases, requests, scoped, unreachable};
use distributed_lock_testkit::servers::RedisServer;

use crate::SECOND;

#[test]
fn every_call_with_every_outcome() {
    let store = Served::start();
    exhaustive::every_call_with_every_outcome(|| store.clone());
}

#[test]
fn a_failed_extension_is_not_a_loss() {
    let store = Served::start();
    leases::a_failed_extension_is_not_a_loss(|| store.clone());
    leases::what_is_given_back_is_extended_no_more(|| store.clone());
}

#[test]
fn a_try_ends_in_time_with_the_right_error() {
    let store = Served::start();
    unreachable::a_try_ends_in_time_with_the_right_error(|| store.clone());
    unreachable::a_try_behind_what_is_under_way_does_not_guess(|| store.clone());
    unreachable::a_try_after_a_drop_waits_for_the_release(|| store.clone());
}

#[test]
fn a_lock_costs_one_request_each_way() {
    let store = Served::start();
    requests::a_lock_costs_one_request_each_way(|| store.clone());
    requests::an_ended_provider_asks_nothing(|| store.clone());
}

#[test]
fn acquire_all_gives_back_what_it_had() {
    let store = Served::start();
    scoped::a_failed_release_is_returned(|| store.clone());
    scoped::acquire_all_gives_back_what_it_had(|| store.clone());
}

/// A server, and two processes that are connected to it. Clones are the same.
#[derive(Clone)]
struct Served {
    server: Arc<RedisServer>,
    drivers: [Arc<RedisDriver>; 2],
    /// How many were asked for.
    given: Arc<AtomicUsize>,
    clock: CurrentClock,
}

impl Served {
    fn start() -> Self {
        let (server, clock) = (Arc::new(RedisServer::start(&[])), CurrentClock::default());
        let driver = || {
            let builder = RedisLockProvider::builder().add_server(server.url()).expiry(3 * SECOND);
            // What is in the paused runtime would not outlive its case.
            let builder = builder.clock(clock.clone()).keeper_thread(true);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            Arc::new(runtime.unwrap().block_on(builder.build_driver()).unwrap())
        };
        let drivers = [driver(), driver()];
        Self { server, drivers, given: Arc::default(), clock }
    }
}

impl Store for Served {
    type Driver = Standing;

    fn driver(&self, clock: Arc<dyn Clock>) -> Standing {
        *self.clock.0.lock().unwrap() = clock;
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        let driver = Arc::clone(&self.drivers[number % self.drivers.len()]);
        Standing { driver, granted: Mutex::default() }
    }

    /// What is left of a queue are tombstones, of a token its counter; both end by themselves.
    fn left(&self) -> usize {
        let mut connection =
            redis::Client::open(self.server.url()).unwrap().get_connection().unwrap();
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
        let ends = |key: &String| key.contains("}:waiters:") || key.contains("}:counter:");
        keys.iter().filter(|key| !ends(key)).count()
    }
}

/// The clock of the case that runs.
#[derive(Debug, Clone)]
struct CurrentClock(Arc<Mutex<Arc<dyn Clock>>>);

impl Default for CurrentClock {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Arc::new(SystemClock))))
    }
}

impl Clock for CurrentClock {
    fn now(&self) -> Moment {
        self.0.lock().unwrap().now()
    }
}

/// A driver in whose runtime a paused clock stands still while a request is under way.
struct Standing {
    driver: Arc<RedisDriver>,
    /// What the driver has heard of, and perhaps nobody else.
    granted: Mutex<HashSet<AttemptToken>>,
}

/// A paused clock goes on by itself only while no blocking task runs.
struct StandsStill {
    _ends: Sender<()>,
}

impl StandsStill {
    /// Until it is dropped, or for so long.
    fn for_at_most(limit: Duration) -> Self {
        let (ends, ended) = channel();
        tokio::task::spawn_blocking(move || {
            // Either way it is over.
            let _ = ended.recv_timeout(limit);
        });
        Self { _ends: ends }
    }
}

/// Longer than any request takes.
const REQUEST: Duration = Duration::from_secs(5);

/// Long enough to take a place in the queue; waiting itself takes no time.
const ENQUEUING: Duration = Duration::from_millis(5);

impl Driver for Standing {
    type Key = <RedisDriver as Driver>::Key;
    type Place = <RedisDriver as Driver>::Place;
    type Grant = <RedisDriver as Driver>::Grant;

    fn resolve(&self, name: LockName<'_>, mode: Mode) -> LockResult<Self::Key> {
        self.driver.resolve(name, mode)
    }

    async fn try_acquire(
        &self,
        attempt: &mut Attempt<Self::Key, Self::Place>,
    ) -> LockResult<Option<Granted<Self::Grant>>> {
        let _stands = StandsStill::for_at_most(REQUEST);
        let granted = self.driver.try_acquire(attempt).await?;
        if granted.is_some() {
            self.granted.lock().unwrap().insert(attempt.token()?);
        }
        Ok(granted)
    }

    async fn wait(
        &self,
        attempt: &mut Attempt<Self::Key, Self::Place>,
    ) -> LockResult<WakeUp<Self::Grant>> {
        let _stands = StandsStill::for_at_most(ENQUEUING);
        let woken = self.driver.wait(attempt).await?;
        if matches!(woken, WakeUp::Granted(_)) {
            self.granted.lock().unwrap().insert(attempt.token()?);
        }
        Ok(woken)
    }

    /// Of a reply that the script loses the driver has heard; of one that is really lost it has not.
    fn must_withdraw(&self, attempt: &Attempt<Self::Key, Self::Place>) -> bool {
        let granted = |token| self.granted.lock().unwrap().contains(&token);
        attempt.token().is_ok_and(granted) || self.driver.must_withdraw(attempt)
    }

    async fn withdraw(&self, attempt: &mut Attempt<Self::Key, Self::Place>) -> LockResult<()> {
        let _stands = StandsStill::for_at_most(REQUEST);
        self.driver.withdraw(attempt).await
    }

    async fn extend(&self, grants: &[&Self::Grant]) -> LockResult<Vec<Extension>> {
        let _stands = StandsStill::for_at_most(REQUEST);
        self.driver.extend(grants).await
    }

    async fn release(&self, grant: &Self::Grant) -> LockResult<()> {
        let _stands = StandsStill::for_at_most(REQUEST);
        self.driver.release(grant).await
    }

    async fn fencing_token(&self, grant: &Self::Grant) -> LockResult<FencingToken> {
        let _stands = StandsStill::for_at_most(REQUEST);
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
