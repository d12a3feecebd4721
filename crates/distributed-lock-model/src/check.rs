//! Checking one variant within bounds.

use std::time::Duration;

use stateright::{Checker, HasDiscoveries, Model};

use crate::variant::{Bounds, Variant};
use crate::world::World;

/// What the checker has found.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was checked.
    pub variant: Variant,
    /// How far.
    pub bounds: Bounds,
    /// How many different states were seen.
    pub states: usize,
    /// How long that took.
    pub took: Duration,
    /// Which property is violated, and after how many steps.
    pub violated: Option<(&'static str, usize)>,
    /// Whether both clients have held the lock, one after the other, in some state.
    pub is_meaningful: bool,
}

/// Looks at every state that a variant can come to, until it finds a violation.
#[must_use]
pub fn check(variant: Variant, bounds: Bounds) -> Report {
    let world = World { variant, bounds };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (checker, took) = timed(|| {
        world.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join()
    });
    let mut discoveries = checker.discoveries();
    let is_meaningful = discoveries.remove("two hold it in turn").is_some();
    let violated = discoveries.into_iter().next();
    let violated = violated.map(|(name, path)| (name, path.into_actions().len()));
    let states = checker.unique_state_count();
    Report { variant, bounds, states, took, violated, is_meaningful }
}

#[expect(clippy::disallowed_methods, reason = "this measures a program, not a lease")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = std::time::Instant::now();
    let result = work();
    (result, began.elapsed())
}
