//! Everything at once: processes under random load, faults at random, and the history checked.
//!
//! Directed scenarios come first, each fault at the moment when it hurts; random ones follow, by a
//! seed that is printed. Then all is quiet, and every lock must be free.

mod directed;
mod random;
mod report;
mod stage;

use std::collections::HashMap;
use std::time::Duration;

pub use self::report::Report;
use self::stage::PATIENCE;
pub use self::stage::{Played, Stage, Try, acquired, left, wrote};
use crate::history::{Event, Rules, What, check};
use crate::nemesis::files::LockFiles;
use crate::nemesis::{Crew, Nemesis, Noise, Tally, false_losses, settled};
use crate::worker::{Primitive, Target};

/// How soon holders are told that their lock file was removed.
const LOSS_TOLD_WITHIN: Duration = Duration::from_millis(50);

/// What scheduling may add to a bound on a quiet machine; the noise that was measured comes on top.
const LEAST_EPSILON: Duration = Duration::from_millis(25);

/// Who says that all faults have ended.
const QUIET: &str = "nemesis";

/// What the names of locks begin with that are used only to see whether that is supported.
const ASKED: &str = "asked-";

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Repeats what was random, as far as the machine does.
    pub seed: u64,
    /// How long the random part takes.
    pub length: Duration,
    /// How many tasks each worker has.
    pub tasks: u64,
    /// What they use: locks, and semaphores of other names.
    pub targets: Vec<Target>,
}

/// Does it all, with locks on files.
///
/// # Panics
/// If a worker dies by itself or does not come to rest.
#[must_use]
pub fn run_on_files(plan: &Plan, files: &LockFiles, mut crew: Crew) -> Report {
    let noise = Noise::measure();
    let mut stage = Stage::new(&mut crew, files, &noise, 0);
    let targets = supported(&mut stage, &plan.targets);
    let mut failures = directed::all(&mut stage, &targets);
    let (directed, attempts) = (stage.strikes, stage.attempts);

    let locks: Vec<String> =
        targets.iter().filter(|target| is_lock(target)).map(|t| t.lock.clone()).collect();
    let mut nemesis = Nemesis::new(files, &locks, plan.seed);
    random::strike(&mut crew, &mut nemesis, plan, &targets);
    crew.record().log(QUIET, "", What::quiet());
    let mut stage = Stage::new(&mut crew, files, &noise, attempts);
    failures.extend(stage.everything_is_free());

    let strikes = [&directed, nemesis.strikes()].concat();
    let epsilon = LEAST_EPSILON + 2 * noise.worst();
    let mut events = settled(with_last_words(crew.record().events()), &strikes, epsilon);
    events.retain(|event| !event.lock.starts_with(ASKED));
    let rules = Rules { epsilon, loss_told_within: LOSS_TOLD_WITHIN, ..Rules::default() };
    failures.extend(check(&events, &rules).iter().map(ToString::to_string));
    let losses = false_losses(&events, &strikes);
    failures.extend(losses.iter().map(|event| format!("lost without a fault: {event:?}")));
    let tally = Tally::of(&events, nemesis.strikes());
    Report { seed: plan.seed, length: plan.length, epsilon, targets, tally, failures, events }
}

/// Moves deaths behind what the dead have said last: a death is logged just before the kill, and no
/// process uses the name of another.
fn with_last_words(events: Vec<Event>) -> Vec<Event> {
    let mut last: HashMap<String, Duration> = HashMap::new();
    for event in &events {
        let at = last.entry(event.who.clone()).or_default();
        *at = event.at.max(*at);
    }
    let is_death = |event: &Event| event.what == What::Died;
    let (deaths, mut events): (Vec<_>, Vec<_>) = events.into_iter().partition(is_death);
    events.extend(deaths.into_iter().map(|death| Event { at: last[&death.who], ..death }));
    // Stable: at the same moment, deaths stay behind.
    events.sort_by_key(|event| event.at);
    events
}

/// What the backend can do, of what is planned.
fn supported(stage: &mut Stage<'_, LockFiles>, targets: &[Target]) -> Vec<Target> {
    let mut can = |primitive: &Primitive| {
        let asked = stage.ask(0, *primitive, PATIENCE, &format!("{ASKED}{primitive}"));
        let granted = stage.hears(&asked, "granted the lock", acquired).is_ok();
        stage.release(&asked);
        granted
    };
    let mut kept = Vec::new();
    for target in targets {
        let primitives: Vec<_> = target.primitives.iter().copied().filter(&mut can).collect();
        if !primitives.is_empty() {
            kept.push(Target { lock: target.lock.clone(), primitives });
        }
    }
    kept
}

/// Whether all holders lock one file.
fn is_lock(target: &Target) -> bool {
    !target.primitives.iter().any(|primitive| matches!(primitive, Primitive::Permit(_)))
}
