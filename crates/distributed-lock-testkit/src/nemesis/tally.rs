//! What a history says about the faults: which took effect, and what they explain.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use super::strikes::{Kind, Strike, is_failure};
use crate::history::{Event, What};

/// How much was done and met.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Locks acquired.
    pub acquired: usize,
    /// Acquires that were refused, or waited in vain.
    pub refused: usize,
    /// Acquires with an error.
    pub failed: usize,
    /// Writes that a resource refused because of their token.
    pub writes_refused: usize,
    /// Holders that were told a loss.
    pub lost: usize,
    /// Faults that took effect, of those that struck.
    pub effective: BTreeMap<Kind, (usize, usize)>,
}

impl Tally {
    /// Counts, in a history that is in the order of time.
    #[must_use]
    pub fn of(events: &[Event], strikes: &[Strike]) -> Self {
        let count = |is_it: fn(&Event) -> bool| events.iter().filter(|event| is_it(event)).count();
        let spans = Spans::of(events);
        let mut tally = Self {
            acquired: count(|event| matches!(event.what, What::Acquired { .. })),
            refused: count(|event| event.what == What::Refused),
            failed: count(is_failure),
            writes_refused: count(|event| {
                matches!(event.what, What::Wrote { accepted: false, .. })
            }),
            lost: count(|event| event.what == What::Lost),
            effective: BTreeMap::new(),
        };
        for strike in strikes {
            let (effective, all) = tally.effective.entry(strike.kind).or_default();
            *all += 1;
            *effective += usize::from(took_effect(strike, events, &spans));
        }
        tally
    }
}

fn took_effect(strike: &Strike, events: &[Event], spans: &Spans<'_>) -> bool {
    let during = |span: &Span<'_>, at| span.from < at && span.until.is_none_or(|until| until >= at);
    let of_who = |span: &&Span<'_>| span.who == strike.who;
    let of_lock = |span: &&Span<'_>| span.lock == strike.lock;
    match strike.kind {
        Kind::Killed => spans.held.iter().filter(of_who).any(|span| during(span, strike.from)),
        // It held from before until after.
        Kind::Stopped => {
            let throughout =
                |span: &Span<'_>| during(span, strike.from) && during(span, strike.until);
            spans.held.iter().filter(of_who).any(throughout)
        }
        Kind::Removed => spans.held.iter().filter(of_lock).any(|span| during(span, strike.from)),
        Kind::AuxiliaryRemoved => {
            spans.asked.iter().filter(of_lock).any(|span| during(span, strike.from))
        }
        Kind::Obstructed | Kind::FullDisk => {
            let first = events.partition_point(|event| event.at < strike.done);
            let within = events[first..].iter().take_while(|event| event.at <= strike.until);
            within.filter(|event| event.lock == strike.lock).any(is_failure)
        }
    }
}

/// A hold, or the wait for one.
#[derive(Debug)]
struct Span<'a> {
    who: &'a str,
    lock: &'a str,
    from: Duration,
    until: Option<Duration>,
}

#[derive(Debug, Default)]
struct Spans<'a> {
    asked: Vec<Span<'a>>,
    held: Vec<Span<'a>>,
}

impl<'a> Spans<'a> {
    /// Spans end with what ends a hold by the holder's own account, or the holder itself.
    fn of(events: &'a [Event]) -> Self {
        let mut spans = Self::default();
        let mut asking: HashMap<(&str, u64), usize> = HashMap::new();
        let mut holding: HashMap<(&str, u64), usize> = HashMap::new();
        for event in events {
            let Event { at, who, lock, what, .. } = event;
            let attempt = (who.as_str(), event.attempt);
            let begin = || Span { who, lock, from: *at, until: None };
            match what {
                What::Invoke { .. } => {
                    asking.insert(attempt, spans.asked.len());
                    spans.asked.push(begin());
                }
                What::Acquired { .. } | What::Refused | What::Failed { .. } => {
                    end(&mut spans.asked, asking.remove(&attempt), *at);
                    if matches!(what, What::Acquired { .. }) {
                        holding.insert(attempt, spans.held.len());
                        spans.held.push(begin());
                    }
                }
                What::ReleaseInvoked | What::Lost => {
                    end(&mut spans.held, holding.remove(&attempt), *at);
                }
                What::Died => {
                    let theirs = |(whose, _): &(&str, u64)| whose == who;
                    for (spans, open) in
                        [(&mut spans.asked, &mut asking), (&mut spans.held, &mut holding)]
                    {
                        for (_, index) in open.extract_if(|attempt, _| theirs(attempt)) {
                            end(spans, Some(index), *at);
                        }
                    }
                }
                _ => {}
            }
        }
        spans
    }
}

fn end(spans: &mut [Span<'_>], index: Option<usize>, at: Duration) {
    if let Some(span) = index.and_then(|index| spans.get_mut(index)) {
        span.until = Some(at);
    }
}

/// Losses that no strike explains: what the lock stood on was not touched while it was held, nor
/// just before.
#[must_use]
pub fn false_losses<'a>(events: &'a [Event], strikes: &[Strike]) -> Vec<&'a Event> {
    let mut invoked: HashMap<(&str, u64), Duration> = HashMap::new();
    let mut found = Vec::new();
    for event in events {
        let attempt = (event.who.as_str(), event.attempt);
        match event.what {
            What::Invoke { .. } => {
                invoked.insert(attempt, event.at);
            }
            What::Lost => {
                let since = invoked.get(&attempt).copied().unwrap_or_default();
                let explains = |strike: &Strike| {
                    strike.ends_holds
                        && strike.lock == event.lock
                        && strike.from <= event.at
                        && strike.done >= since
                };
                if !strikes.iter().any(explains) {
                    found.push(event);
                }
            }
            _ => {}
        }
    }
    found
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acquired, refused, failed, writes_refused, lost, effective } = self;
        writeln!(f, "{acquired} acquired, {refused} refused, {failed} failed")?;
        writeln!(f, "{lost} losses told, {writes_refused} writes refused by their token")?;
        for (kind, (effective, all)) in effective {
            writeln!(f, "{kind:?}: {effective} of {all} took effect")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: u64, attempt: u64, what: What) -> Event {
        let at = Duration::from_millis(at);
        Event { at, who: "ann".into(), attempt, lock: "a".into(), what }
    }

    fn strike(kind: Kind, from: u64, until: u64) -> Strike {
        let [from, until] = [from, until].map(Duration::from_millis);
        let ends_holds = kind == Kind::Removed;
        Strike { kind, who: "ann".into(), lock: "a".into(), ends_holds, from, done: from, until }
    }

    fn invoke() -> What {
        What::Invoke { mode: distributed_lock_core::Mode::Exclusive, deadline: None }
    }

    #[test]
    fn only_faults_that_met_a_holder_count() {
        let acquired = What::Acquired { token: None };
        let events =
            [event(1, 1, invoke()), event(2, 1, acquired), event(5, 1, What::ReleaseInvoked)];
        let strikes = [
            strike(Kind::Removed, 3, 3),
            strike(Kind::Removed, 6, 6),
            strike(Kind::Stopped, 3, 4),
            strike(Kind::Stopped, 3, 6),
            strike(Kind::Killed, 1, 1),
        ];
        let tally = Tally::of(&events, &strikes);
        let expected = [(Kind::Killed, (0, 1)), (Kind::Stopped, (1, 2)), (Kind::Removed, (1, 2))];
        assert_eq!(tally.effective, expected.into());
    }

    #[test]
    fn a_loss_needs_a_strike_at_its_own_lock_and_time() {
        let events = [event(5, 1, invoke()), event(9, 1, What::Lost)];
        let unexplained = |strike: Strike| false_losses(&events, &[strike]).len();
        assert_eq!(unexplained(strike(Kind::Removed, 7, 7)), 0);
        assert_eq!(unexplained(strike(Kind::Removed, 2, 2)), 1);
        assert_eq!(unexplained(strike(Kind::Stopped, 7, 7)), 1);
    }
}
