//! The machines over a simulated network: hosts, partitions, delays and crashes, by seed.

#![expect(clippy::unwrap_used, reason = "tests")]

mod simulated;

use std::time::Duration;

use distributed_lock_redis::redlock::servers::Quorum;
use distributed_lock_redis::redlock::timing::Timing;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use simulated::{EXPIRY, Holds, client, server, server_name};

const SEEDS: u64 = 8;
const SERVERS: u8 = 3;
const CLIENTS: u8 = 3;

/// I1: no two hold it at the same time. I4: the later of two holds has the greater token.
#[test]
fn one_holder_at_a_time_with_growing_tokens_whatever_the_network_does() {
    let (mut grants, mut faults, mut extended) = (0, 0, 0);
    for seed in 0..SEEDS {
        let (holds, struck) = simulate(seed, right());
        let granted = holds.check().unwrap_or_else(|breach| panic!("seed {seed}: {breach}"));
        println!("seed {seed}: {granted} grants, {struck} faults");
        (grants, faults, extended) =
            (grants + granted, faults + struck, extended + holds.extended());
    }
    println!("{SEEDS} seeds, {grants} grants, {extended} beyond one lease, {faults} faults");
    assert!(extended >= 5, "only {extended} holds were extended: nothing is shown");
    assert!(grants >= 5 * SEEDS, "only {grants} grants: nothing is shown");
    assert!(faults >= 10 * SEEDS, "only {faults} faults: nothing is shown");
}

/// One server's vote is taken for a majority.
#[test]
fn a_quorum_too_small_is_caught() {
    let (_, timing) = right();
    let wrong = (Quorum::wrong(SERVERS, 1), timing);
    let caught = (0..SEEDS).find_map(|seed| Some((seed, simulate(seed, wrong).0.check().err()?)));
    let (seed, breach) = caught.expect("a breach");
    println!("seed {seed}: {breach}");
    assert!(breach.contains("two holders"), "{breach}");
}

fn right() -> (Quorum, Timing) {
    (Quorum::of(SERVERS), Timing::new(EXPIRY, EXPIRY / 10, EXPIRY / 2))
}

fn simulate(seed: u64, how: (Quorum, Timing)) -> (Holds, u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut network = turmoil::Builder::new();
    network
        .rng_seed(seed)
        .simulation_duration(Duration::from_secs(60))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(40));
    let mut network = network.build();
    for number in 0..SERVERS {
        network.host(server_name(number), server);
    }
    let holds = Holds::default();
    for number in 0..CLIENTS {
        let (holds, seed) = (holds.clone(), seed * 31 + u64::from(number));
        network.client(format!("client-{number}"), client(how, seed, holds));
    }
    let mut faults = 0;
    // While somebody still works, something happens every so often.
    while !network.step().unwrap() {
        if !random.random_bool(0.004) {
            continue;
        }
        faults += 1;
        let one = server_name(random.random_range(0..SERVERS));
        let other = format!("client-{}", random.random_range(0..CLIENTS));
        match random.random_range(0..9) {
            0 => network.partition(one, other),
            1 => network.hold(one, other),
            2 => network.release(one, other),
            // What a server knew is gone: it stays away for longer than any lease.
            3 => network.bounce(one),
            _ => network.repair(one, other),
        }
    }
    (holds, faults)
}
