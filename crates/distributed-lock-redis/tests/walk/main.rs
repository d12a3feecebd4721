//! Random walks of the driver's requests: see [`distributed_lock_testkit::walk`].
//!
//! `WALK_SEED` and `WALK_STEPS` change where they begin and how long they are; `cargo xtask walk` makes
//! five million steps on one server, and one million on several.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod mutants;

use std::num::NonZero;
use std::thread;
use std::time::Duration;

use distributed_lock_core::clock::TokioClock;
use distributed_lock_redis::{
    RedisDriver, RedisLockProvider, RedisLockProviderBuilder, RedisProtocol,
};
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
        let builder = client(urls, self.leases()[lease], clock);
        async move { builder.build_driver().await.unwrap() }
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
        // The servers have just been started.
        let builder = client(urls, self.leases()[lease], clock).restart_guard(Duration::ZERO);
        async move { builder.build_driver().await.unwrap() }
    }
}

fn client(urls: Vec<String>, lease: Duration, clock: TokioClock) -> RedisLockProviderBuilder {
    let builder = RedisLockProvider::builder().expiry(lease).clock(clock);
    let builder = builder.protocol(RedisProtocol::Resp3);
    urls.into_iter().fold(builder, |builder, url| builder.add_server(url))
}

#[test]
fn requests_may_arrive_late_twice_or_never() {
    walks(|| OneServer, steps());
}

/// A step asks three servers: a fifth of the steps.
#[test]
fn requests_to_a_majority_may_arrive_late_twice_or_never() {
    walks(|| Majority, steps() / 5);
}

fn walks<S: Subject>(subject: fn() -> S, steps: u64) {
    let seed = from_environment("WALK_SEED", 1);
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
    are_found(OneServer, &mutants::OF_ONE_SERVER);
}

#[test]
fn mutants_of_a_majority_are_found() {
    are_found(Majority, &mutants::OF_A_MAJORITY);
}

fn are_found<S: Subject>(subject: S, mutants: &'static [Mutant]) {
    let mut walk = Walk::new(subject);
    let survivors: Vec<&Mutant> =
        mutants.iter().filter(|mutant| survives(&mut walk, mutant)).collect();
    assert!(survivors.is_empty(), "not found: {survivors:#?}");
}

fn survives<S: Subject>(walk: &mut Walk<S>, mutant: &'static Mutant) -> bool {
    let most = usize::try_from(steps()).unwrap();
    let walked = walk.go(from_environment("WALK_SEED", 1), most, Some(mutant));
    let name = mutant.name;
    match walked.failure {
        Some(ref failure) => println!("{name}: {} after {} steps", failure.reason, walked.steps),
        None => println!("{name}: not found in {} steps", walked.steps),
    }
    walked.failure.is_none()
}

fn steps() -> u64 {
    from_environment("WALK_STEPS", 100_000)
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}
