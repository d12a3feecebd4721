//! Everything at once: eight processes under random load, on links and a server that are broken under
//! them, and the history of what they were told, checked against the ten invariants.
//!
//! `CHAOS_SECONDS` says for how long at least (10 if it says nothing), `CHAOS_SEED` with which seed. It
//! goes on until there were faults enough for that time.

use std::collections::BTreeMap;
use std::process::Command as Program;
use std::time::Duration;

use distributed_lock_core::DynLockProvider;
use distributed_lock_postgres::PostgresLockProvider;
use distributed_lock_testkit::history::{Rules, What, check, now};
use distributed_lock_testkit::nemesis::{Crew, Noise};
use distributed_lock_testkit::proxy::{FaultProxy, Way};
use distributed_lock_testkit::servers::{ClockShift, PostgresServer, Toward};
use distributed_lock_testkit::worker::random::Random;
use distributed_lock_testkit::worker::{self, Command, Primitive, Target};

use crate::{MS, SECOND};

const ROLE: &str = "DISTRIBUTED_LOCK_CHAOS_WORKER";
const SEQUENCE: &str = "fencing";
const WORKERS: usize = 8;
const HOUR: Duration = Duration::from_secs(3600);

/// Short, so that silent links are told of within the run.
const CADENCE: Duration = Duration::from_millis(150);
const OPERATION: Duration = Duration::from_millis(500);

/// What must have happened in a minute for a run to count, at least.
const ACQUIRED_IN_A_MINUTE: u64 = 1000;
const FAULTS_IN_A_MINUTE: u64 = 50;

/// How long somebody who holds is waited for.
const VICTIM_WITHIN: Duration = Duration::from_secs(5);

/// Where a worker starts. Run as a test, it has nothing to do.
#[test]
fn entry() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    worker::run(async |url: &str| {
        let builder = PostgresLockProvider::builder()
            .connection_string(url)
            .fencing_sequence(SEQUENCE)
            .keepalive_cadence(CADENCE)
            .operation_timeout(OPERATION);
        loop {
            // A worker may be born while the server cannot be reached.
            match builder.clone().build().await {
                Ok(provider) => return Ok(DynLockProvider::new(provider)),
                Err(_) => tokio::time::sleep(20 * MS).await,
            }
        }
    });
}

fn program() -> Program {
    let mut program = Program::new(std::env::current_exe().unwrap());
    program.args(["--exact", "chaos::entry", "--nocapture"]).env(ROLE, "yes");
    program
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Killed,
    Stopped,
    Terminated,
    Reset,
    Silent,
    Delayed,
    ServerKilled,
    ClockStep,
}

const KINDS: [Kind; 8] = [
    Kind::Killed,
    Kind::Stopped,
    Kind::Terminated,
    Kind::Reset,
    Kind::Silent,
    Kind::Delayed,
    Kind::ServerKilled,
    Kind::ClockStep,
];

struct Chaos {
    server: PostgresServer,
    clock: ClockShift,
    proxy: FaultProxy,
    crew: Crew,
    random: Random,
    load: Command,
    struck: BTreeMap<Kind, u64>,
}

impl Chaos {
    /// Logs a fault that strikes all holds, just before it does.
    fn ends_holds(&self, row: u8) {
        self.crew.record().log("nemesis", "", What::FaultEndsHold { row });
    }

    fn disturbs(&self, kind: Kind) {
        self.crew.record().log("nemesis", "", What::Fault { kind: format!("{kind:?}") });
    }

    fn strike(&mut self, kind: Kind) {
        // A fault that meets nobody proves nothing.
        if self.crew.record().wait_held(VICTIM_WITHIN, |holds| !holds.is_empty()).is_none() {
            return;
        }
        let holds = self.crew.record().holds();
        let victim = self.random.pick(&holds).and_then(|hold| self.crew.number_of(&hold.who));
        match (kind, victim) {
            (Kind::Killed, Some(worker)) => {
                self.crew.kill(worker);
                self.crew.tell(worker, &self.load);
            }
            (Kind::Stopped, Some(worker)) => {
                self.crew.stop(worker);
                self.crew.record().pause(self.random.up_to(150 * MS));
                self.crew.resume(worker);
            }
            (Kind::Killed | Kind::Stopped, None) => return,
            (Kind::Terminated, _) => {
                self.ends_holds(7);
                let all = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks \
                           WHERE locktype = 'advisory'";
                let ended: u64 = self.server.psql(all).unwrap().trim().parse().unwrap();
                if ended == 0 {
                    return;
                }
            }
            (Kind::Reset, _) => {
                self.ends_holds(4);
                self.proxy.reset_all();
            }
            (Kind::Silent, _) => {
                self.ends_holds(5);
                self.proxy.black_hole(Way::ToClient);
                self.crew.record().pause(30 * MS + self.random.up_to(150 * MS));
                self.proxy.heal();
            }
            (Kind::Delayed, _) => {
                self.disturbs(kind);
                let latency = self.random.up_to(50 * MS);
                self.proxy.delay(Way::ToClient, latency, 20 * MS);
                self.proxy.delay(Way::ToServer, latency, 20 * MS);
                self.crew.record().pause(60 * MS);
                self.proxy.heal();
            }
            (Kind::ServerKilled, _) => {
                self.ends_holds(8);
                self.server.kill();
                self.server.restart();
            }
            (Kind::ClockStep, _) => {
                self.disturbs(kind);
                let toward = if self.random.percent(50) { Toward::Future } else { Toward::Past };
                self.clock.set(HOUR, toward);
            }
        }
        *self.struck.entry(kind).or_default() += 1;
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[test]
fn locks_on_postgres_keep_their_promises_in_chaos() {
    let seconds = number("CHAOS_SECONDS").unwrap_or(10);
    let seed = number("CHAOS_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("seed {seed}");
    let noise = Noise::measure();
    let clock = ClockShift::new();
    let server =
        PostgresServer::builder().setting("max_connections", "300").envs(clock.env()).start();
    server.psql(&format!("CREATE SEQUENCE {SEQUENCE} AS bigint MINVALUE 1")).unwrap();
    let proxy = FaultProxy::start(server.address());
    let resources = tempfile::tempdir().unwrap();
    let crew = Crew::start(program, server.url_by(proxy.port()), resources.path(), WORKERS);
    let lock = [Primitive::Mutex, Primitive::Write, Primitive::Read, Primitive::Read];
    let targets = vec![
        Target::new("mutex", &[Primitive::Mutex]),
        Target::new("both", &lock),
        Target::new("three", &[Primitive::Permit(3)]),
    ];
    let load = Command::Load { seed, tasks: 2, targets };
    let (random, struck) = (Random::new(seed), BTreeMap::new());
    let mut chaos = Chaos { server, clock, proxy, crew, random, load, struck };
    for worker in 0..WORKERS {
        chaos.crew.tell(worker, &chaos.load);
    }
    let enough = FAULTS_IN_A_MINUTE * seconds / 60;
    let (began, length) = (now(), Duration::from_secs(seconds));
    for kind in KINDS.into_iter().cycle() {
        let is_enough = chaos.struck.len() == KINDS.len()
            && chaos.struck.values().all(|struck| *struck >= enough);
        if now() >= began + length && (is_enough || now() >= began + 3 * length) {
            break;
        }
        chaos.strike(kind);
        let pause = chaos.random.up_to(20 * MS);
        chaos.crew.record().pause(pause);
    }
    chaos.crew.record().pause(3 * SECOND);
    chaos.crew.record().log("nemesis", "", What::quiet());
    chaos.crew.rest();

    let mut events = chaos.crew.record().events();
    events.sort_by_key(|event| event.at);
    let count = |wanted: fn(&What) -> bool| {
        u64::try_from(events.iter().filter(|event| wanted(&event.what)).count()).unwrap()
    };
    let acquired = count(|what| matches!(what, What::Acquired { .. }));
    let lost = count(|what| matches!(what, What::Lost));
    let effects = chaos.proxy.effects();
    println!("{acquired} acquired, {lost} lost, {:?}, {effects:?}", chaos.struck);
    let epsilon = 500 * MS + 2 * noise.worst();
    let rules = Rules {
        operation_timeout: OPERATION,
        epsilon,
        loss_told_within: 2 * CADENCE,
        ..Rules::default()
    };
    let violations = check(&events, &rules);
    for violation in violations.iter().take(5) {
        println!("{violation}\n");
    }
    assert!(violations.is_empty(), "{} violations, seed {seed}", violations.len());
    assert!(acquired >= ACQUIRED_IN_A_MINUTE * seconds / 60, "{acquired} acquired");
    assert!([effects.delayed, effects.vanished, effects.reset].into_iter().all(|n| n >= enough));
    assert!(lost > 0, "nobody was told a loss");
    for kind in KINDS {
        let struck = chaos.struck.get(&kind).copied().unwrap_or_default();
        assert!(struck >= enough, "{kind:?}: {struck}");
    }
}
