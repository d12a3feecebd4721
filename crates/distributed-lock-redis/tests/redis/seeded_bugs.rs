//! Seeded bugs at a real server: in each schedule the right driver passes, and the wrong one is
//! caught by the invariant that it breaks and by nothing else.
//!
//! Leases of 200 ms where that is what it is about, against requests and replies that take 20 to 150
//! ms on their way through a proxy, and work that ends just before or past the deadline. The
//! schedules of all delays run side by side, with the right driver and with the wrong one.

use std::sync::Arc;
use std::time::Duration;

use distributed_lock_core::Mode;
use distributed_lock_core::clock::SystemClock;
use distributed_lock_core::error::LockError;
use distributed_lock_core::traits::LockHandle;
use distributed_lock_redis::{RedisDriver, RedisLockProvider, redis};
use distributed_lock_testkit::bugs::{Bug, Free, Stage, Worker};
use distributed_lock_testkit::faults::{Call, Outcome, When};
use distributed_lock_testkit::history::{Event, Recorder, Rules, What, check};
use distributed_lock_testkit::nemesis::Noise;
use distributed_lock_testkit::proxy::{FaultProxy, Way};
use distributed_lock_testkit::servers::RedisServer;
use futures_util::future::join_all;
use tokio::join;
use tokio::time::{Instant, sleep, timeout};

use crate::{MS, SECOND, held, provider};

const LEASE: Duration = Duration::from_millis(200);
/// So long that it does not end while it is waited for.
const LONG_LEASE: Duration = Duration::from_secs(10);
const OPERATION_TIMEOUT: Duration = SECOND;
const DELAYS: [u32; 6] = [20, 46, 72, 98, 124, 150];

/// Three processes, the first of them at the other end of a proxy, and a lock of their own.
struct Play {
    stage: Stage<RedisDriver>,
    a: Worker<RedisDriver>,
    b: Worker<RedisDriver>,
    c: Worker<RedisDriver>,
    /// The way of `a` to the server.
    proxy: FaultProxy,
    delay: Duration,
    lock: String,
}

#[tokio::test]
async fn a_release_that_ignores_the_token_is_caught() {
    let schedule = async |play: &Play| {
        let Play { a, b, c, delay, lock, .. } = play;
        for worker in [a, b, c] {
            is_never_extended(worker);
        }
        // It leaves before the lease ends, and arrives after that, while another holds.
        let late = a.run(lock, Mode::Exclusive, None, LEASE - 10 * MS);
        let slows = after(play.holds("a"), async {
            play.proxy.delay(Way::ToServer, *delay, Duration::ZERO)
        });
        let others = async |worker: &Worker<RedisDriver>| {
            for _ in 0..2 {
                worker.run(lock, Mode::Exclusive, None, LEASE * 3 / 4).await;
            }
        };
        join!(late, slows, after(play.holds("a"), others(b)), after(play.holds("a"), others(c)));
    };
    catches(Bug::ReleaseIgnoresToken, LEASE, schedule).await;
}

#[tokio::test]
async fn a_deadline_counted_from_the_reply_is_caught() {
    let schedule = async |play: &Play| {
        let Play { a, b, delay, lock, .. } = play;
        is_never_extended(a);
        is_never_extended(b);
        play.proxy.delay(Way::ToClient, *delay, Duration::ZERO);
        let until_told = a.run(lock, Mode::Exclusive, None, LEASE * 2);
        let next = b.run(lock, Mode::Exclusive, None, 30 * MS);
        join!(until_told, after(play.holds("a"), next));
    };
    catches(Bug::DeadlineFromReply, LEASE, schedule).await;
}

#[tokio::test]
async fn tokens_from_the_clients_clock_are_caught() {
    let schedule = async |Play { a, b, lock, .. }: &Play| {
        a.run(lock, Mode::Exclusive, None, 5 * MS).await;
        b.run(lock, Mode::Exclusive, None, 5 * MS).await;
    };
    catches(Bug::TokensFromClientClock, LONG_LEASE, schedule).await;
}

#[tokio::test]
async fn an_attempt_that_is_not_cleaned_up_is_caught() {
    let schedule = async |play: &Play| {
        let Play { a, b, delay, lock, stage, .. } = play;
        a.fault("its reply is lost");
        play.proxy.lose_reply_to(lock.as_bytes());
        // Half of them wait for an answer, the others have gone by then.
        let patience = if *delay < 80 * MS { *delay } else { OPERATION_TIMEOUT * 2 };
        if timeout(patience, a.run(lock, Mode::Exclusive, None, 5 * MS)).await.is_err() {
            a.tell(a.last(), lock, What::Failed { error: "dropped".to_owned() });
        }
        stage.is_quiet();
        b.run(lock, Mode::Exclusive, Some(SECOND), 5 * MS).await;
    };
    catches(Bug::NoCleanUp, LONG_LEASE, schedule).await;
}

#[tokio::test]
async fn a_place_that_is_not_withdrawn_is_caught() {
    let schedule = async |play: &Play| {
        let Play { a, b, c, delay, lock, stage, .. } = play;
        let gives_up = b.run(lock, Mode::Exclusive, Some(*delay), Duration::ZERO);
        let holds = a.run(lock, Mode::Exclusive, None, *delay * 3);
        join!(holds, after(play.holds("a"), gives_up));
        stage.is_quiet();
        // The server takes the one that has gone for alive, and gives it the lock for as long.
        c.run(lock, Mode::Exclusive, Some(SECOND), 5 * MS).await;
    };
    catches(Bug::PlaceNotWithdrawn, LONG_LEASE, schedule).await;
}

#[tokio::test]
async fn modes_that_do_not_exclude_each_other_are_caught() {
    let schedule = async |play: &Play| {
        let Play { a, b, delay, lock, .. } = play;
        let writes = b.run(lock, Mode::Exclusive, None, 20 * MS);
        join!(a.run(lock, Mode::Shared, None, *delay * 2), after(play.holds("a"), writes));
    };
    catches(Bug::ModesApart, LONG_LEASE, schedule).await;
}

#[tokio::test]
async fn one_permit_too_many_is_caught() {
    let schedule = async |play: &Play| {
        let Play { a, b, c, delay, lock, .. } = play;
        let two = Mode::Permit { max: 2 };
        let run = |worker: &Worker<RedisDriver>| {
            let worker = worker.clone();
            async move { worker.run(lock, two, None, *delay * 2).await }
        };
        let both = async { join!(play.holds("a"), play.holds("b")) };
        join!(run(a), run(b), after(both, run(c)));
    };
    catches(Bug::PermitsOffByOne, LONG_LEASE, schedule).await;
}

/// Runs a schedule with many delays, with the right driver and the wrong one.
async fn catches(bug: Bug, lease: Duration, schedule: impl AsyncFn(&Play)) {
    let noise = Noise::measure();
    // From here on the server knows the scripts, and requests take one round trip.
    let first = provider(&RedisServer::shared().url()).await;
    held(&first, &format!("{bug:?} first")).await.release().await.unwrap();
    let mut plays = Vec::new();
    for (delay, bug) in DELAYS.into_iter().flat_map(|delay| [(delay, None), (delay, Some(bug))]) {
        plays.push((bug.is_some(), Play::prepare(bug, lease, delay * MS).await));
    }
    join_all(plays.iter().map(|(_, play)| Box::pin(schedule(play)))).await;
    let rules = Rules {
        operation_timeout: OPERATION_TIMEOUT,
        epsilon: 25 * MS + 2 * noise.worst(),
        loss_told_within: LEASE,
        ordered: true,
        ..Rules::default()
    };
    let (mut found, mut example) = (0, None);
    for (is_wrong, Play { stage, delay, .. }) in &plays {
        let events: Vec<Event> = stage.events();
        let violations = check(&events, &rules);
        if !is_wrong {
            assert_eq!(violations, [], "the right driver, with {delay:?}");
            continue;
        }
        found += usize::from(!violations.is_empty());
        let others = check(&events, &rules.clone().without(bug.breaks()));
        assert_eq!(others, [], "caught by more than {}, with {delay:?}", bug.breaks());
        example = example.or(violations.into_iter().next());
    }
    let example = example.unwrap_or_else(|| panic!("{bug:?} was not caught"));
    println!("{bug:?}: caught with {found} of {} delays by {example}", DELAYS.len());
}

impl Play {
    /// Until a worker knows that it has the lock.
    async fn holds(&self, worker: &str) {
        let began = Instant::now();
        let knows = |event: &Event| {
            event.who == worker && matches!(event.what, What::Acquired { .. } | What::Failed { .. })
        };
        while !self.stage.events().iter().any(knows) {
            assert!(began.elapsed() < 10 * SECOND, "{worker} has not got it");
            sleep(MS).await;
        }
    }

    async fn prepare(bug: Option<Bug>, lease: Duration, delay: Duration) -> Self {
        let server = RedisServer::shared();
        let proxy = FaultProxy::start(server.address());
        let log = Recorder::new();
        let stage = Stage::new(bug, OPERATION_TIMEOUT, Arc::new(SystemClock), log);
        let driver = async |url: String| {
            let builder = RedisLockProvider::builder().add_server(url).expiry(lease);
            builder.operation_timeout(OPERATION_TIMEOUT).build_driver().await.unwrap()
        };
        let remote = server.url_by(proxy.port());
        let frees = deleting(&remote).await;
        let a = stage.worker("a", driver(remote).await, |client| {
            // Only where that is the bug; others do not tell the time by a clock of their own.
            client.ahead(delay).freeing_by(frees)
        });
        let b = stage.worker("b", driver(server.url()).await, |client| client);
        let c = stage.worker("c", driver(server.url()).await, |client| client);
        let right_or_wrong = if bug.is_some() { "wrong" } else { "right" };
        let lock = format!("{bug:?} {right_or_wrong} {}", proxy.port());
        Self { stage, a, b, c, proxy, delay, lock }
    }
}

/// A release as many have it: it deletes the key.
async fn deleting(url: &str) -> Free<<RedisDriver as distributed_lock_core::driver::Driver>::Key> {
    let client = redis::Client::open(url).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    Arc::new(move |key| {
        let (mut connection, key) = (connection.clone(), key.to_string());
        Box::pin(async move {
            let deleted = redis::cmd("DEL").arg(key).exec_async(&mut connection).await;
            deleted.map_err(LockError::connection)
        })
    })
}

/// Nothing that it asks to extend its leases reaches the server.
fn is_never_extended(worker: &Worker<RedisDriver>) {
    worker.fault("its extensions are cut");
    worker.script.spoil(Call::Extend, When::From(1), Outcome::Cut);
}

/// On the heap: in a debug build a test's stack is soon full.
async fn after<T>(event: impl Future, action: impl Future<Output = T>) -> T {
    let action = Box::pin(action);
    event.await;
    action.await
}
