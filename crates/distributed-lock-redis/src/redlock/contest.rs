//! Further rounds after a split vote.

use std::time::Duration;

use distributed_lock_core::clock::Moment;

/// What to do after a round that nobody may have won.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContestCommand {
    /// Begin another round at this moment.
    AgainAt(Moment),
    /// It is held by somebody else, as far as one can see.
    GiveUp,
}

/// A contest for one lock: rounds, each after a random pause.
///
/// Contenders that ask at the same time split the votes; who comes first after a pause finds all
/// servers free, because the others have undone their rounds. The pause is drawn from a span that
/// begins at the length of the round, so that one round fits between two contenders, and doubles
/// with each split, so that it comes to fit however many they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Contest {
    ends: Moment,
    splits: u32,
}

/// A round on the loopback interface takes less; without this, pauses there would be too short for
/// timers.
const SHORTEST_SPAN: Duration = Duration::from_millis(4);

/// Above this a longer pause helps nobody.
const LONGEST_SPAN: Duration = Duration::from_millis(256);

impl Contest {
    /// A contest that goes on until `ends`.
    #[must_use]
    pub fn until(ends: Moment) -> Self {
        Self { ends, splits: 0 }
    }

    /// The votes were split in a round that was begun at `sent`; `random` is any number.
    pub fn on_split(&mut self, now: Moment, sent: Moment, random: u64) -> ContestCommand {
        let span = now.since(sent).max(SHORTEST_SPAN).saturating_mul(2 << self.splits.min(6));
        self.splits = self.splits.saturating_add(1);
        let micros = u64::try_from(span.min(LONGEST_SPAN).as_micros()).unwrap_or(u64::MAX);
        let again = now.after(Duration::from_micros(random % (micros + 1)));
        if again < self.ends { ContestCommand::AgainAt(again) } else { ContestCommand::GiveUp }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_each_split_and_end_in_time() {
        let at = |millis: u64| Moment::from_nanos(millis * 1_000_000);
        let mut contest = Contest::until(at(1_000));
        let mut longest = Vec::new();
        for split in 0..8 {
            let all = (0..10_000).map(|random| {
                let mut contest = contest.clone();
                match contest.on_split(at(100 + split), at(98 + split), random * 37) {
                    ContestCommand::AgainAt(again) => again.since(at(100 + split)),
                    ContestCommand::GiveUp => panic!("there is time"),
                }
            });
            longest.push(all.max().unwrap());
            contest.on_split(at(100 + split), at(98 + split), 0);
        }
        assert!(longest.is_sorted(), "{longest:?}");
        assert!(longest[0] > Duration::from_millis(7) && longest[0] <= Duration::from_millis(8));
        assert!(longest[7] <= LONGEST_SPAN, "{longest:?}");
        assert_eq!(contest.on_split(at(999), at(990), 200_000), ContestCommand::GiveUp);
    }
}
