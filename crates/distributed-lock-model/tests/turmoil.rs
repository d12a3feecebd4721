//! The machines over a simulated network: hosts, partitions, delays and crashes, by seed.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "tests")]

mod simulated;

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use simulated::{Holds, client, server, server_name};

const SEEDS: u64 = 8;
const SERVERS: u8 = 3;
const CLIENTS: u8 = 3;

/// I1: no two hold it at the same time. I4: the later of two holds has the greater token.
#[test]
fn one_holder_at_a_time_with_growing_tokens_whatever_the_network_does() {
    let (mut grants, mut faults) = (0, 0);
    for seed in 0..SEEDS {
        let (holds, struck) = simulate(seed);
        grants += holds.check().unwrap_or_else(|breach| panic!("seed {seed}: {breach}"));
        faults += struck;
    }
    println!("{SEEDS} seeds, {grants} grants, {faults} faults");
    assert!(grants >= 5 * SEEDS, "only {grants} grants: nothing is shown");
    assert!(faults >= 10 * SEEDS, "only {faults} faults: nothing is shown");
}

fn simulate(seed: u64) -> (Holds, u64) {
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
        network.client(format!("client-{number}"), client(SERVERS, seed, holds));
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
