//! I9, I10: a loss is told, and only a loss.

use super::attempts::{Attempt, History};
use super::rules::{Invariant, Rules, Violation};
use super::timeline::timeline;

pub(super) fn check(history: &History<'_>, rules: &Rules) -> Vec<Violation> {
    let mut found = Vec::new();
    for attempt in &history.attempts {
        let (who, lock) = (attempt.name(), attempt.resource.lock);
        if told_late(attempt, history, rules) {
            let text = format!(
                "{who} was not told within {:?} that {lock:?} may be gone{}",
                rules.loss_told_within,
                timeline(&[attempt])
            );
            found.push(Violation { invariant: Invariant::LossTold, text });
        }
        if attempt.lost.is_some() && !attempt.explained {
            let drawn = timeline(&[attempt]);
            let text = format!("{who} was told that {lock:?} is lost, and no fault came{drawn}");
            found.push(Violation { invariant: Invariant::NoFalseLoss, text });
        }
    }
    found
}

/// Whether a struck holder that could still act was neither told nor had released in time.
fn told_late(attempt: &Attempt<'_>, history: &History<'_>, rules: &Rules) -> bool {
    let Some(struck) = attempt.struck else { return false };
    let bound = struck.at + rules.loss_told_within + rules.epsilon;
    let settled = [attempt.lost, attempt.release_invoked, attempt.died];
    let settled = settled.into_iter().flatten().map(|point| point.at).min();
    let stalled = attempt.stalled.first().is_some_and(|stalled| stalled.at <= bound);
    !stalled && settled.unwrap_or(history.end) > bound
}
