//! Random load under random faults.

use std::time::Duration;

use super::Plan;
use crate::history::now;
use crate::nemesis::{Crew, Nemesis};
use crate::worker::random::Random;
use crate::worker::{Command, Target};

/// The longest pause between two faults.
const LONGEST_PAUSE: Duration = Duration::from_millis(40);

/// The shortest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);

/// Strikes until the plan's time is over, and lets everybody come to rest.
pub(super) fn strike(crew: &mut Crew, nemesis: &mut Nemesis<'_>, plan: &Plan, targets: &[Target]) {
    let mut random = Random::new(plan.seed);
    for number in 0..crew.size() {
        crew.tell(number, &load(plan, targets, random.number()));
    }
    let end = now() + plan.length;
    let kinds = nemesis.kinds();
    let mut next: Vec<_> = Vec::new();
    while now() < end {
        if next.is_empty() {
            // Each kind as often as the others, in any order.
            next.clone_from(&kinds);
        }
        let index = random.below(u64::try_from(next.len()).unwrap_or(1));
        let kind = next.swap_remove(usize::try_from(index).unwrap_or(0));
        let seed = random.number();
        nemesis.strike(kind, crew, |crew, number| crew.tell(number, &load(plan, targets, seed)));
        crew.record().pause(SHORTEST_PAUSE + random.up_to(LONGEST_PAUSE));
    }
    crew.rest();
}

fn load(plan: &Plan, targets: &[Target], seed: u64) -> Command {
    Command::Load { seed, tasks: plan.tasks, targets: targets.to_vec() }
}
