//! Random schedules on top of the directed ones: a hundred seeds in which the right driver must pass
//! every invariant, whatever its requests and replies meet. How many of them find each seeded bug is
//! printed, for comparison with the directed schedules, which find all.
//!
//! A failure names its seed; `SEED=17 cargo test --test seeded_bugs_random` repeats it alone.

use std::time::Duration;

use distributed_lock_core::Mode;
use distributed_lock_testkit::bugs::{Bug, Options, Worker, World, rehearse};
use distributed_lock_testkit::faults::{Call, Outcome, When};
use distributed_lock_testkit::history::{Event, Invariant, Rules, What, check};
use tokio::task::JoinSet;
use tokio::time::sleep;

const LEASE: Duration = Duration::from_millis(200);
const OPERATION_TIMEOUT: Duration = Duration::from_millis(300);
const TASKS: u64 = 2;
const ROUNDS: u64 = 12;
const SEEDS_PER_BUG: usize = 40;

fn rules() -> Rules {
    Rules {
        operation_timeout: OPERATION_TIMEOUT,
        epsilon: Duration::from_millis(5),
        loss_told_within: LEASE,
        ..Rules::default()
    }
}

fn calls() -> Rules {
    Rules { check: [Invariant::CallsEnd].into(), ..rules() }
}

/// A place in the queue is taken after both of these.
fn order_among_workers() -> Rules {
    let check = [Invariant::NotOvertaken].into();
    Rules { ordered: true, epsilon: OPERATION_TIMEOUT * 2, check, ..rules() }
}

#[test]
fn the_right_driver_passes_every_random_schedule() {
    let (mut acquired, mut refused, mut lost, mut failed) = (0, 0, 0, 0);
    for seed in seeds() {
        let events = history(None, seed);
        for rules in [rules().without(Invariant::CallsEnd), calls(), order_among_workers()] {
            let violations = check(&events, &rules);
            for violation in &violations {
                println!("{violation}");
            }
            assert!(violations.is_empty(), "{} violations with SEED={seed}", violations.len());
        }
        let count = |like: fn(&What) -> bool| events.iter().filter(|e| like(&e.what)).count();
        acquired += count(|what| matches!(what, What::Acquired { .. }));
        refused += count(|what| matches!(what, What::Refused));
        lost += count(|what| matches!(what, What::Lost));
        failed += count(|what| matches!(what, What::Failed { .. } | What::ReleaseFailed { .. }));
    }
    println!("{acquired} acquired, {refused} refused, {lost} lost, {failed} failed");
    if seeds().count() > 1 {
        let least = [acquired, refused, lost, failed].into_iter().min().unwrap_or(0);
        assert!(acquired >= 1000 && least >= 50, "too little happened to say anything");
    }
}

#[test]
fn what_random_schedules_find_is_counted() {
    for bug in Bug::ALL {
        let found = seeds().take(SEEDS_PER_BUG).filter(|seed| {
            let violations = check(&history(Some(bug), *seed), &rules());
            violations.iter().any(|violation| violation.invariant == bug.breaks())
        });
        let found = found.count();
        println!("{bug:?}: found by {found} of {SEEDS_PER_BUG} random schedules");
    }
}

fn seeds() -> impl Iterator<Item = u64> {
    let one = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    one.map_or(0..100, |seed: u64| seed..seed + 1)
}

fn history(bug: Option<Bug>, seed: u64) -> Vec<Event> {
    let options = Options { lease: Some(LEASE), operation_timeout: OPERATION_TIMEOUT };
    rehearse(bug, options, async |world| schedule(world, seed).await)
}

async fn schedule(world: &World, seed: u64) {
    world.fault("requests and replies are slow or lost");
    let mut chance = Chance(seed);
    let workers = ["a", "b", "c"].map(|name| {
        let ahead = chance.millis(100);
        world.worker_ahead(name, ahead)
    });
    let mut tasks = JoinSet::new();
    for worker in &workers {
        for _ in 0..TASKS {
            tasks.spawn(work(worker.clone(), Chance(chance.next())));
        }
    }
    tasks.join_all().await;
    for worker in &workers {
        worker.script.heal();
        for call in Call::ALL {
            worker.link.delay(call, Duration::ZERO, Duration::ZERO);
        }
    }
    world.is_quiet();
    for (lock, mode) in [("x", Mode::Exclusive), ("y", Mode::Exclusive), ("x", PERMIT)] {
        // What nobody could withdraw ends by itself, places in the queue after a second.
        let patience = Some(Duration::from_secs(2));
        workers[0].run(lock, mode, patience, Duration::ZERO).await;
    }
}

const PERMIT: Mode = Mode::Permit { max: 2 };

async fn work(worker: Worker, mut chance: Chance) {
    for _ in 0..ROUNDS {
        sleep(chance.millis(60)).await;
        // Not the token's: its request would delay the news of the grant.
        let call = Call::ALL[chance.below(5)];
        if chance.below(2) == 0 && call != Call::Wait {
            worker.link.delay(call, chance.millis(150), chance.millis(150));
        }
        if chance.below(4) == 0 {
            let outcome = Outcome::WRONG[chance.below(5)];
            worker.script.spoil(call, When::Nth(worker.script.calls(call) + 1), outcome);
        }
        let (lock, mode) = [
            ("x", Mode::Exclusive),
            ("x", Mode::Exclusive),
            ("x", Mode::Shared),
            ("y", Mode::Exclusive),
            ("x", PERMIT),
        ][chance.below(5)];
        let patience = [Duration::ZERO, chance.millis(400), LEASE * 4][chance.below(3)];
        worker.run(lock, mode, Some(patience), chance.millis(250)).await;
    }
}

/// `SplitMix64`: the same numbers for the same seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 32).unwrap_or(0) % end
    }

    fn millis(&mut self, end: u64) -> Duration {
        Duration::from_millis((self.next() >> 32) % end)
    }
}
