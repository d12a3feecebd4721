//! Random walks of the driver's requests: see [`distributed_lock_testkit::walk`].
//!
//! `WALK_SEED` and `WALK_STEPS` change where they begin and how long they are; `cargo xtask walk` makes
//! five million steps.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod mutants;

use std::num::NonZero;
use std::thread;
use std::time::Duration;

use distributed_lock_core::clock::TokioClock;
use distributed_lock_redis::{RedisDriver, RedisLockProvider, RedisProtocol};
use distributed_lock_testkit::walk::{Mutant, Subject, Walk, Walked};

/// One server.
struct OneServer;

impl Subject for OneServer {
    type Driver = RedisDriver;

    const SERVERS: usize = 1;
    const IS_FAIR: bool = true;

    fn leases(&self) -> &[Duration] {
        const { &[Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(10)] }
    }

    fn driver(
        &self,
        urls: Vec<String>,
        lease: usize,
        clock: TokioClock,
    ) -> impl Future<Output = RedisDriver> + Send + 'static {
        driver(urls, self.leases()[lease], clock)
    }
}

/// A majority of three. Waiters look again in turns that the servers do not order.
struct Majority;

impl Subject for Majority {
    type Driver = RedisDriver;

    const SERVERS: usize = 3;
    const IS_FAIR: bool = false;

    fn leases(&self) -> &[Duration] {
        const { &[Duration::from_secs(3), Duration::from_secs(10)] }
    }

    fn driver(
        &self,
        urls: Vec<String>,
        lease: usize,
        clock: TokioClock,
    ) -> impl Future<Output = RedisDriver> + Send + 'static {
        driver(urls, self.leases()[lease], clock)
    }
}

async fn driver(urls: Vec<String>, lease: Duration, clock: TokioClock) -> RedisDriver {
    let builder = RedisLockProvider::builder().expiry(lease).clock(clock);
    let builder = builder.protocol(RedisProtocol::Resp3).restart_guard(Duration::ZERO);
    let builder = urls.into_iter().fold(builder, |builder, url| builder.add_server(url));
    builder.build_driver().await.unwrap()
}

#[test]
fn requests_may_arrive_late_twice_or_never() {
    walks(|| OneServer, 100_000);
}

/// A step asks three servers: fewer steps.
#[test]
fn requests_to_a_majority_may_arrive_late_twice_or_never() {
    walks(|| Majority, 20_000);
}

fn walks<S: Subject>(subject: fn() -> S, steps: u64) {
    let (seed, steps) = (from_environment("WALK_SEED", 1), from_environment("WALK_STEPS", steps));
    // A walk waits for its server half of the time.
    let walks = thread::available_parallelism().map_or(1, NonZero::get) as u64;
    let walked: Vec<Walked> = thread::scope(|scope| {
        let walk = |number| {
            scope.spawn(move || one_walk(subject(), seed.wrapping_add(number), steps / walks))
        };
        let walks: Vec<_> = (0..walks).map(walk).collect();
        walks.into_iter().map(|walk| walk.join().unwrap()).collect()
    });
    let sum = |of: fn(&Walked) -> usize| walked.iter().map(of).sum::<usize>();
    let (steps, requests) = (sum(|walked| walked.steps), sum(|walked| walked.requests));
    println!("{steps} steps, {requests} requests, {} grants", sum(|walked| walked.grants));
    for walked in walked {
        if let Some(failure) = walked.failure {
            panic!("{failure}");
        }
    }
}

fn one_walk(subject: impl Subject, seed: u64, steps: u64) -> Walked {
    let mut walk = Walk::new(subject);
    let mut walked = walk.go(seed, usize::try_from(steps).unwrap(), None);
    walked.failure = walked.failure.map(|failure| walk.shrink(failure, None));
    walked
}

#[test]
fn mutants_are_found() {
    are_found(OneServer, &mutants::OF_ONE_SERVER, 100_000);
}

#[test]
fn mutants_of_a_majority_are_found() {
    are_found(Majority, &mutants::OF_A_MAJORITY, 30_000);
}

fn are_found<S: Subject>(subject: S, mutants: &'static [Mutant], steps: u64) {
    let mut walk = Walk::new(subject);
    let survivors: Vec<&Mutant> =
        mutants.iter().filter(|mutant| survives(&mut walk, mutant, steps)).collect();
    assert!(survivors.is_empty(), "not found: {survivors:#?}");
}

fn survives<S: Subject>(walk: &mut Walk<S>, mutant: &'static Mutant, steps: u64) -> bool {
    let most = usize::try_from(from_environment("WALK_STEPS", steps)).unwrap();
    let walked = walk.go(from_environment("WALK_SEED", 1), most, Some(mutant));
    let name = mutant.name;
    match walked.failure {
        Some(ref failure) => println!("{name}: {} after {} steps", failure.reason, walked.steps),
        None => println!("{name}: not found in {} steps", walked.steps),
    }
    walked.failure.is_none()
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}
