//! A whole `dlock run` of `true` beside the programs that do the least of the same work: `flock(1)`, and
//! for servers a client that connects, asks once and ends.
//!
//! The two run in turn, because the machine's speed drifts. Printed are the medians of both and the
//! median of the ratios, each of two runs that followed each other.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and may fail")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use distributed_lock_testkit::servers::{PostgresServer, RedisServer};

const ROUNDS: usize = 200;
/// The first runs read the programs from the disk.
const WARM_UP: usize = 5;

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| format!("{}/{name}", directory.path().display());
    compare(
        "files, beside flock(1)",
        2.5,
        &["flock", &path("bare.lock"), "true"],
        &dlock(&format!("file://{}", path("locks"))),
    );
    let redis = RedisServer::start(&[]);
    compare(
        "Redis, beside redis-cli ping",
        1.5,
        &["redis-cli", "-h", "127.0.0.1", "-p", &redis.port().to_string(), "ping"],
        &dlock(&redis.url()),
    );
    let postgres = PostgresServer::shared();
    // The program itself: on Debian, the one in `PATH` is a script that looks for it.
    let psql = postgres.programs().join("psql");
    compare(
        "PostgreSQL, beside psql -c 'select 1'",
        1.5,
        &[&psql.to_string_lossy(), "--no-psqlrc", &postgres.url(), "-c", "select 1"],
        &dlock(&postgres.url()),
    );
}

fn dlock(url: &str) -> [&str; 7] {
    [env!("CARGO_BIN_EXE_dlock"), "run", "--url", url, "bench", "--", "true"]
}

fn compare(what: &str, goal: f64, bare: &[&str], ours: &[&str]) {
    let mut times: [Vec<Duration>; 2] = Default::default();
    for round in 0..WARM_UP + ROUNDS {
        let took = [run(bare), run(ours)];
        if round >= WARM_UP {
            times.iter_mut().zip(took).for_each(|(times, took)| times.push(took));
        }
    }
    let [bare, ours] = times;
    let ratios = bare.iter().zip(&ours).map(|(bare, ours)| ours.as_secs_f64() / bare.as_secs_f64());
    let ratio = median(ratios.collect(), f64::total_cmp);
    let (bare, ours) = (median(bare, Ord::cmp), median(ours, Ord::cmp));
    println!(
        "{:<52} bare {bare:>9.2?}  ours {ours:>9.2?}  ratio {ratio:.2} (goal ≤ {goal})",
        format!("dlock run of true on {what}")
    );
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn run(words: &[&str]) -> Duration {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let status = command.status().unwrap();
    let took = start.elapsed();
    assert!(status.success(), "{words:?}: {status}");
    took
}

fn median<T: Copy>(mut values: Vec<T>, order: impl FnMut(&T, &T) -> std::cmp::Ordering) -> T {
    values.sort_by(order);
    values[values.len() / 2]
}
