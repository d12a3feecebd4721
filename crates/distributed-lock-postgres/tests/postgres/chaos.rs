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
use distributed_lock_testkit::nemesis::{self, Crew, Noise, Strike, settled};
use distributed_lock_testkit::proxy::{FaultProxy, Way};
use distributed_lock_testkit::servers::{ClockShift, PostgresServer, Toward};
use distributed_lock_testkit::worker::random::Random;
use distributed_lock_testkit::worker::{self, Command, Primitive, Target};

use crate::MS;

const ROLE: &str = "DISTRIBUTED_LOCK_CHAOS_WORKER";
const SEQUENCE: &str = "fencing";
const WORKERS: usize = 8;
const LOCKS: [&str; 3] = ["mutex", "both", "three"];
const HOUR: Duration = Duration::from_secs(3600);

/// Short, so that silent links are told of within the run.
const CADENCE: Duration = Duration::from_millis(150);
const OPERATION: Duration = Duration::from_millis(500);

/// What must have happened in a minute for a run to count, at least.
const ACQUIRED_IN_A_MINUTE: u64 = 1000;
const FAULTS_IN_A_MINUTE: u64 = 50;

/// How long an answer is on its way, and what the machine's noise adds.
const ON_ITS_WAY: Duration = Duration::from_millis(25);

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
    /// When grants on their way were made worthless, or a worker stood still.
    strikes: Vec<Strike>,
}

impl Chaos {
    /// Does what ends all holds at the server before their holders can be told: logged just before.
    fn end_holds<T>(&mut self, row: u8, strike: impl FnOnce(&mut Self) -> T) -> T {
        let from = self.crew.record().log("nemesis", "", What::FaultEndsHold { row });
        let result = strike(self);
        let done = now();
        for lock in LOCKS {
            self.strikes.push(Strike {
                kind: nemesis::Kind::Removed,
                who: String::new(),
                lock: lock.to_owned(),
                ends_holds: true,
                from,
                done,
                until: done,
            });
        }
        result
    }

    /// Stops a worker for a moment.
    fn stop(&mut self, worker: usize) {
        let (who, from) = (self.crew.who(worker).to_owned(), self.crew.stop(worker));
        self.crew.record().pause(self.random.up_to(150 * MS));
        let until = self.crew.resume(worker);
        let (kind, lock) = (nemesis::Kind::Stopped, String::new());
        self.strikes.push(Strike { kind, who, lock, ends_holds: false, from, done: from, until });
    }

    fn disturbs(&self, kind: Kind) {
        self.crew.record().log("nemesis", "", What::Fault { kind: format!("{kind:?}") });
    }

    /// Each lock, and each permit at once with the others.
    fn everything_is_free(&mut self) {
        let primitives = [Primitive::Mutex, Primitive::Mutex, Primitive::Permit(3)];
        let three = [LOCKS[2]; 3].map(|lock| (lock, primitives[2]));
        let once = LOCKS.into_iter().zip(primitives).take(2);
        let since = self.crew.record().mark();
        for (attempt, (lock, primitive)) in (1..).zip(once.chain(three)) {
            let (timeout, lock) = (VICTIM_WITHIN, lock.to_owned());
            self.crew.tell(0, &Command::Acquire { attempt, primitive, timeout, lock });
            let granted = self.crew.record().wait_for(since, 2 * VICTIM_WITHIN, |event| {
                event.attempt == attempt && matches!(event.what, What::Acquired { .. })
            });
            assert!(granted.is_some(), "{primitive:?} after quiet");
        }
    }

    /// Somebody who holds: a fault that meets nobody proves nothing.
    fn victim(&mut self) -> Option<usize> {
        let end = now() + VICTIM_WITHIN;
        while now() < end {
            self.crew.record().wait_held(VICTIM_WITHIN, |holds| !holds.is_empty())?;
            // They may have released meanwhile.
            let holds = self.crew.record().holds();
            let victim = self.random.pick(&holds).and_then(|hold| self.crew.number_of(&hold.who));
            if victim.is_some() {
                return victim;
            }
        }
        None
    }

    fn strike(&mut self, kind: Kind) {
        let Some(victim) = self.victim() else { return };
        match kind {
            Kind::Killed => {
                self.crew.kill(victim);
                self.crew.tell(victim, &self.load);
            }
            Kind::Stopped => self.stop(victim),
            Kind::Terminated => {
                let all = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks \
                           WHERE locktype = 'advisory'";
                let ended = self.end_holds(7, |chaos| chaos.server.psql(all).unwrap());
                if ended.trim() == "0" {
                    return;
                }
            }
            Kind::Reset => self.end_holds(4, |chaos| chaos.proxy.reset_all()),
            Kind::Silent => {
                // Whoever holds is told before the server lets go: no hold is excused.
                self.disturbs(kind);
                self.proxy.black_hole(Way::ToClient);
                self.crew.record().pause(30 * MS + self.random.up_to(150 * MS));
                self.proxy.heal();
            }
            Kind::Delayed => {
                self.disturbs(kind);
                let latency = self.random.up_to(50 * MS);
                self.proxy.delay(Way::ToClient, latency, 20 * MS);
                self.proxy.delay(Way::ToServer, latency, 20 * MS);
                self.crew.record().pause(60 * MS);
                self.proxy.heal();
            }
            Kind::ServerKilled => {
                self.end_holds(8, |chaos| chaos.server.kill());
                self.server.restart();
            }
            Kind::ClockStep => {
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
        Target::new(LOCKS[0], &[Primitive::Mutex]),
        Target::new(LOCKS[1], &lock),
        Target::new(LOCKS[2], &[Primitive::Permit(3)]),
    ];
    let load = Command::Load { seed, tasks: 2, targets };
    let (random, struck, strikes) = (Random::new(seed), BTreeMap::new(), Vec::new());
    let mut chaos = Chaos { server, clock, proxy, crew, random, load, struck, strikes };
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
    chaos.crew.rest();
    chaos.crew.record().log("nemesis", "", What::quiet());
    chaos.everything_is_free();

    let on_its_way = ON_ITS_WAY + 2 * noise.worst();
    let events = settled(chaos.crew.record().events(), &chaos.strikes, on_its_way);
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
