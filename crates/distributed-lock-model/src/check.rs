//! Checking one variant within bounds.

use std::time::Duration;

use stateright::{Checker, HasDiscoveries, Model};

use crate::guard_variant::{GuardStart, GuardVariant};
use crate::guarded::Guarded;
use crate::variant::{Bounds, Variant};
use crate::world::World;

/// What the checker has found.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was checked, in words.
    pub title: &'static str,
    /// How far, in words.
    pub bounds: String,
    /// Whether it must hold, or else must be found out.
    pub must_hold: bool,
    /// How many different states were seen.
    pub states: usize,
    /// How long that took.
    pub took: Duration,
    /// Which property is violated, and after how many steps.
    pub violated: Option<(&'static str, usize)>,
    /// Whether both clients have held the lock, one after the other, in some state, with a
    /// token each where tokens are drawn.
    pub is_meaningful: bool,
}

impl Report {
    /// Whether it came out as it must.
    #[must_use]
    pub fn is_as_it_must_be(&self) -> bool {
        match self.must_hold {
            true => self.violated.is_none() && self.is_meaningful,
            false => self.violated.is_some(),
        }
    }
}

/// Looks at every state that a variant can come to, until it finds a violation.
#[must_use]
pub fn check(variant: Variant, bounds: Bounds) -> Report {
    let (title, must_hold) = (variant.title(), variant == Variant::Right);
    run(World { variant, bounds }, title, bounds.to_string(), must_hold)
}

/// The same for the restart guard.
#[must_use]
pub fn check_guard(variant: GuardVariant, start: GuardStart) -> Report {
    let (title, must_hold) = (variant.title(), variant == GuardVariant::Right);
    run(Guarded { variant, start }, title, start.to_string(), must_hold)
}

fn run<M>(model: M, title: &'static str, bounds: String, must_hold: bool) -> Report
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + PartialEq + std::hash::Hash + Send + Sync + 'static,
    M::Action: Clone + PartialEq + Send + Sync,
{
    // Alone, one finds the shortest way to a violation, and the same one each time.
    let threads = match must_hold {
        true => std::thread::available_parallelism().map_or(1, usize::from),
        false => 1,
    };
    let (checker, took) = timed(|| {
        model.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join()
    });
    let mut discoveries = checker.discoveries();
    let is_meaningful = discoveries.remove("two in turn").is_some();
    let violated = discoveries.into_iter().next();
    let violated = violated.map(|(name, path)| (name, path.into_actions().len()));
    let states = checker.unique_state_count();
    Report { title, bounds, must_hold, states, took, violated, is_meaningful }
}

#[expect(clippy::disallowed_methods, reason = "this measures a program, not a lease")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = std::time::Instant::now();
    let result = work();
    (result, began.elapsed())
}
