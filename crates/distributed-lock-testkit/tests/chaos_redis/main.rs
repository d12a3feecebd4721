//! Chaos on a Redis server: eight processes under random load, killed and stopped past their leases,
//! over a link that is reset, stalled, slow and deaf, to a server that is killed and comes back. Before
//! that, each fault at the moment when it hurts.
//!
//! `CHAOS_SECONDS` says for how long (10 if it says nothing), `CHAOS_SEED` with which seed.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "it is a test")]

mod directed;

use std::collections::BTreeMap;
use std::env;
use std::process::Command;
use std::time::Duration;

use distributed_lock::{DynLockProvider, LockError, LockResult, connect};
use distributed_lock_testkit::chaos::Stage;
use distributed_lock_testkit::history::{Invariant, Rules, What, check, now};
use distributed_lock_testkit::nemesis::{Crew, Noise};
use distributed_lock_testkit::proxy::{FaultProxy, Way};
use distributed_lock_testkit::servers::RedisServer;
use distributed_lock_testkit::worker::random::Random;
use distributed_lock_testkit::worker::{self, Primitive, Target};

/// Makes this test program a worker.
const ROLE: &str = "DISTRIBUTED_LOCK_CHAOS_REDIS_WORKER";

const LEASE: Duration = Duration::from_millis(500);
const OPERATION: Duration = Duration::from_millis(400);
/// Stopped workers miss their leases.
const STOPPED_FOR: Duration = Duration::from_millis(700);

/// What must have happened in a minute for a run to count, at least.
const ACQUIRED_IN_A_MINUTE: u64 = 1_000;
const FAULTS_IN_A_MINUTE: u64 = 50;

/// Where a worker starts. Run as a test, it has nothing to do.
#[test]
fn worker_entry() {
    if env::var_os(ROLE).is_some() {
        worker::run(connect_in_the_end);
    }
}

/// A worker that starts while the link is struck tries again, as programs do.
async fn connect_in_the_end(url: &str) -> LockResult<DynLockProvider> {
    loop {
        match connect(url).await {
            Err(error) if error.is_retryable() => {}
            Err(LockError::Backend(_)) => {}
            result => return result,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn worker_program() -> Command {
    let mut program = Command::new(env::current_exe().unwrap());
    program.args(["--exact", "worker_entry", "--nocapture"]).env(ROLE, "yes");
    program
}

/// A fault of the link or the server, and how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Killed,
    Stopped,
    Reset,
    Stalled,
    Slow,
    Deaf,
    ConnectionsKilled,
    ScriptsForgotten,
    Restarted,
}

const FAULTS: [Fault; 9] = [
    Fault::Killed,
    Fault::Stopped,
    Fault::Reset,
    Fault::Stalled,
    Fault::Slow,
    Fault::Deaf,
    Fault::ConnectionsKilled,
    Fault::ScriptsForgotten,
    Fault::Restarted,
];

/// What the locks stand on.
#[derive(Debug)]
struct Services {
    server: RedisServer,
    proxy: FaultProxy,
}

/// Everything that the nemesis has in its hands.
struct Chaos {
    crew: Crew,
    services: Services,
    random: Random,
    stopped: Vec<(usize, Duration)>,
    heals: Option<Duration>,
    took_effect: BTreeMap<Fault, u64>,
}

impl Chaos {
    fn load(&mut self, number: usize, targets: &[Target]) {
        let (seed, targets) = (self.random.number(), targets.to_vec());
        self.crew.tell(number, &worker::Command::Load { seed, tasks: 3, targets });
    }

    /// `false` if it has to wait for the end of another fault.
    fn strike(&mut self, fault: Fault, targets: &[Target]) -> bool {
        let size = u64::try_from(self.crew.size()).unwrap();
        let worker = usize::try_from(self.random.below(size)).unwrap();
        let is_stopped = self.stopped.iter().any(|(number, _)| *number == worker);
        if matches!(fault, Fault::Killed | Fault::Stopped) && is_stopped {
            return false;
        }
        let on_the_link = matches!(fault, Fault::Stalled | Fault::Slow | Fault::Deaf);
        if on_the_link && self.heals.is_some() {
            return false;
        }
        let log =
            |crew: &Crew| crew.record().log("link", "", What::Fault { kind: format!("{fault:?}") });
        let lasts = Duration::from_millis(50) + self.random.up_to(Duration::from_millis(150));
        match fault {
            Fault::Killed => {
                self.crew.kill(worker);
                self.load(worker, targets);
            }
            Fault::Stopped => {
                let who = self.crew.who(worker).to_owned();
                // Its leases run out before it can say so.
                let log = || self.crew.record().log(&who, "", What::FaultEndsHold { row: 2 });
                log();
                self.crew.stop(worker);
                // Once more: what it was granted in between runs out, too.
                log();
                self.stopped.push((worker, now() + STOPPED_FOR));
            }
            Fault::Reset => {
                log(&self.crew);
                self.services.proxy.reset_all();
            }
            Fault::Stalled => {
                log(&self.crew);
                self.services.proxy.stall(Way::ToServer);
                self.heals = Some(now() + lasts);
            }
            Fault::Slow => {
                log(&self.crew);
                for way in [Way::ToServer, Way::ToClient] {
                    self.services.proxy.delay(way, lasts / 4, lasts / 2);
                }
                self.heals = Some(now() + lasts);
            }
            Fault::Deaf => {
                log(&self.crew);
                self.services.proxy.black_hole(Way::ToClient);
                self.heals = Some(now() + lasts / 4);
            }
            Fault::ConnectionsKilled => {
                log(&self.crew);
                drop(self.services.server.cli(&["CLIENT", "KILL", "TYPE", "normal"]));
            }
            Fault::ScriptsForgotten => {
                log(&self.crew);
                drop(self.services.server.cli(&["SCRIPT", "FLUSH"]));
            }
            Fault::Restarted => {
                log(&self.crew);
                self.services.server.kill();
                self.services.server.restart();
            }
        }
        *self.took_effect.entry(fault).or_default() += 1;
        true
    }

    /// Ends what has lasted long enough.
    fn relieve(&mut self, all: bool) {
        let at = now();
        let over: Vec<usize> =
            self.stopped.iter().filter(|(_, until)| all || *until <= at).map(|(n, _)| *n).collect();
        for number in over {
            self.crew.resume(number);
            self.stopped.retain(|(stopped, _)| *stopped != number);
        }
        if self.heals.is_some_and(|until| all || until <= at) {
            self.services.proxy.heal();
            self.heals = None;
        }
    }
}

#[test]
fn locks_on_redis_keep_their_promises_in_chaos() {
    let seconds = number("CHAOS_SECONDS").unwrap_or(10);
    let seed = number("CHAOS_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("seed {seed}");
    let lock = [Primitive::Mutex, Primitive::Write, Primitive::Read, Primitive::Read];
    let targets = [
        Target::new("mutex", &[Primitive::Mutex]),
        Target::new("both", &lock),
        Target::new("busy", &lock),
        Target::new("three", &[Primitive::Permit(3)]),
        Target::new("one", &[Primitive::Permit(1)]),
    ];
    let noise = Noise::measure();
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let proxy = FaultProxy::start(server.address());
    let options =
        format!("expiry={}ms&operation_timeout={}ms", LEASE.as_millis(), OPERATION.as_millis());
    let url = format!("{}?{options}", server.url_by(proxy.port()));
    let resources = tempfile::tempdir().unwrap();
    let crew = Crew::start(worker_program, url.clone(), resources.path(), 8);
    let (random, stopped, took_effect) = (Random::new(seed), Vec::new(), BTreeMap::new());
    let services = Services { server, proxy };
    let mut chaos = Chaos { crew, services, random, stopped, heals: None, took_effect };
    let mut stage = Stage::new(&mut chaos.crew, &chaos.services, &noise, 0);
    let mut failures = directed::all(&mut stage);
    let attempts = stage.attempts;
    for number in 0..chaos.crew.size() {
        chaos.load(number, &targets);
    }
    let end = now() + Duration::from_secs(seconds);
    let mut next = Vec::new();
    while now() < end {
        if next.is_empty() {
            next = FAULTS.to_vec();
        }
        let index = chaos.random.below(u64::try_from(next.len()).unwrap());
        let fault = next.swap_remove(usize::try_from(index).unwrap());
        if !chaos.strike(fault, &targets) {
            next.push(fault);
        }
        let pause = Duration::from_millis(20) + chaos.random.up_to(Duration::from_millis(60));
        chaos.crew.record().pause(pause);
        chaos.relieve(false);
    }
    chaos.relieve(true);
    chaos.crew.rest();
    // Whatever was left runs out.
    chaos.crew.record().log("nemesis", "", What::quiet());
    let mut stage = Stage::new(&mut chaos.crew, &chaos.services, &noise, attempts);
    failures.extend(stage.everything_is_free());
    let events = chaos.crew.record().events();
    let epsilon = Duration::from_millis(25) + 2 * noise.worst();
    let rules = Rules {
        operation_timeout: OPERATION,
        epsilon,
        loss_told_within: LEASE,
        ordered: true,
        ..Rules::default()
    };
    // What is logged as an acquire may have drawn its token, too, by a request of its own.
    let check_calls = [Invariant::CallsEnd].into();
    let calls = Rules { operation_timeout: 2 * OPERATION, check: check_calls, ..rules.clone() };
    for rules in [rules.without(Invariant::CallsEnd), calls] {
        failures.extend(check(&events, &rules).iter().map(ToString::to_string));
    }
    let acquired =
        events.iter().filter(|event| matches!(event.what, What::Acquired { .. })).count();
    let lost = events.iter().filter(|event| event.what == What::Lost).count();
    println!(
        "{acquired} acquired, {lost} lost; bounds + {epsilon:?}; {:?}; {:?}",
        chaos.took_effect,
        chaos.services.proxy.effects()
    );
    for failure in &failures {
        println!("\n{failure}");
    }
    if !failures.is_empty() {
        let history = std::env::temp_dir().join(format!("history-redis-{seed}"));
        let lines: Vec<String> = events.iter().map(|event| format!("{event:?}\n")).collect();
        std::fs::write(&history, lines.concat()).unwrap();
        println!("the history is in {}", history.display());
    }
    assert!(failures.is_empty(), "{} violations, seed {seed}", failures.len());
    let enough = |in_a_minute: u64| in_a_minute * seconds / 60;
    assert!(u64::try_from(acquired).unwrap() >= enough(ACQUIRED_IN_A_MINUTE), "too few acquired");
    for (fault, count) in &chaos.took_effect {
        assert!(*count >= enough(FAULTS_IN_A_MINUTE), "{fault:?}: {count} took effect");
    }
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap())
}
