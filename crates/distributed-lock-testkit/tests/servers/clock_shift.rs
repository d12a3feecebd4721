//! A server's wall clock goes wrong as it is told, and nothing else does.
#![expect(clippy::disallowed_methods, reason = "it is about the clocks of the machine")]

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use distributed_lock_testkit::servers::{ClockShift, PostgresServer, RedisServer, Toward};

/// Makes this test program tell the time.
const ROLE: &str = "DISTRIBUTED_LOCK_CLOCK_READER";

const HOUR: Duration = Duration::from_secs(3600);

/// How much later than asked the time may be told.
const TOLD_WITHIN: Duration = Duration::from_secs(20);

/// Sets the clock in all ways and checks what `read` finds, in seconds since 1970.
fn assert_follows(clock: &ClockShift, read: impl Fn() -> f64) {
    let near = |wanted: Duration| {
        let (read, wanted) = (read(), wanted.as_secs_f64());
        let late = read - wanted;
        assert!((-0.01..TOLD_WITHIN.as_secs_f64()).contains(&late), "{read}, not {wanted}");
    };
    near(wall());
    clock.set(HOUR, Toward::Future);
    near(wall() + HOUR);
    clock.set(HOUR, Toward::Past);
    near(wall() - HOUR);
    clock.set(Duration::from_millis(90_500), Toward::Future);
    near(wall() + Duration::from_millis(90_500));
    clock.reset();
    near(wall());
}

fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

#[test]
fn postgres_has_the_shifted_time() {
    let clock = ClockShift::new();
    let server = PostgresServer::builder().envs(clock.env()).start();
    let statement = "SELECT extract(epoch FROM clock_timestamp())";
    assert_follows(&clock, || server.psql(statement).unwrap().parse().unwrap());
}

#[test]
fn redis_has_the_shifted_time() {
    let clock = ClockShift::new();
    let server = RedisServer::builder().envs(clock.env()).start();
    assert_follows(&clock, || {
        let time = server.cli(&["TIME"]);
        let (seconds, microseconds) = time.split_once('\n').unwrap();
        let microseconds: f64 = microseconds.parse().unwrap();
        seconds.parse::<f64>().unwrap() + microseconds / 1e6
    });
}

#[test]
fn keys_of_redis_expire_by_the_shifted_time() {
    let clock = ClockShift::new();
    let server = RedisServer::builder().envs(clock.env()).start();
    assert_eq!(server.cli(&["SET", "key", "value", "EX", "60"]), "OK");
    assert_eq!(server.cli(&["GET", "key"]), "value");
    clock.set(HOUR, Toward::Future);
    assert_eq!(server.cli(&["GET", "key"]), "");
}

/// Where a reader of clocks starts. Run as a test, it has nothing to do.
#[test]
fn reader_entry() {
    if env::var_os(ROLE).is_some() {
        let started = Instant::now();
        for _ in std::io::stdin().lines() {
            println!("\nclocks {} {}", wall().as_secs(), started.elapsed().as_secs());
        }
    }
}

#[test]
fn the_monotonic_clock_goes_as_it_does() {
    let clock = ClockShift::new();
    let mut program = Command::new(env::current_exe().unwrap());
    program.args(["--exact", "clock_shift::reader_entry", "--nocapture"]).env(ROLE, "yes");
    program.envs(clock.env()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut reader = program.spawn().unwrap();
    let mut input = reader.stdin.take().unwrap();
    let mut lines = BufReader::new(reader.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut read = || {
        writeln!(input).unwrap();
        let line = lines.find_map(|line| Some(line.strip_prefix("clocks ")?.to_owned()));
        let line = line.unwrap();
        let (wall, monotonic) = line.split_once(' ').unwrap();
        (wall.parse::<u64>().unwrap(), monotonic.parse::<u64>().unwrap())
    };

    let (wall, _) = read();
    clock.set(HOUR, Toward::Future);
    let (later, monotonic) = read();
    drop(input);
    reader.wait().unwrap();
    assert!(later - wall >= HOUR.as_secs(), "the wall clock is right");
    assert!(monotonic < TOLD_WITHIN.as_secs(), "the monotonic clock has moved, too");
}
