//! Attempts drawn on one scale of time, for people.

use std::fmt::Write;
use std::time::Duration;

use distributed_lock_core::Mode;

use super::attempts::{Answer, Attempt};

const WIDTH: u128 = 48;

/// One line for each attempt: `-` asks, `=` holds, `.` releases, `~` may be gone; `!` is told
/// loss, `x` dies.
pub(super) fn timeline(attempts: &[&Attempt<'_>]) -> String {
    if attempts.is_empty() {
        return String::new();
    }
    let marks: Vec<Vec<(Duration, Mark)>> = attempts.iter().map(|attempt| marks(attempt)).collect();
    let times = || marks.iter().flatten().map(|(at, _)| *at);
    let (first, last) = (times().min().unwrap_or_default(), times().max().unwrap_or_default());
    let scale = (last - first).as_nanos().max(1);
    let column = |at: Duration| {
        usize::try_from((at - first).as_nanos() * (WIDTH - 1) / scale).unwrap_or(usize::MAX)
    };
    let mut text = format!(" (times from {:.6}s)", first.as_secs_f64());
    for (attempt, marks) in attempts.iter().zip(&marks) {
        let _ = write!(text, "\n  {:<28} ", title(attempt));
        let mut bar = vec![' '; usize::try_from(WIDTH).unwrap_or(0)];
        for (index, (at, mark)) in marks.iter().enumerate() {
            let until = marks.get(index + 1).map(|(next, _)| column(*next));
            let until = until.unwrap_or(if mark.goes_on() { bar.len() } else { column(*at) });
            let until = until.min(bar.len());
            bar[column(*at)..until].fill(mark.then());
            bar[column(*at)] = mark.sign();
        }
        text.extend(bar);
        for (at, mark) in marks {
            let _ = write!(text, " {} +{:.3}s", mark.word(), (*at - first).as_secs_f64());
        }
    }
    text
}

#[derive(Debug, Clone, Copy)]
enum Mark {
    Asks,
    Holds,
    Turned,
    Struck,
    Releases,
    Lost,
    Died,
    Done,
}

impl Mark {
    fn sign(self) -> char {
        match self {
            Self::Asks => '?',
            Self::Holds => '[',
            Self::Turned => '0',
            Self::Struck => '*',
            Self::Releases => ']',
            Self::Lost => '!',
            Self::Died => 'x',
            Self::Done => '|',
        }
    }

    fn then(self) -> char {
        match self {
            Self::Asks => '-',
            Self::Holds => '=',
            Self::Struck => '~',
            Self::Releases => '.',
            Self::Turned | Self::Lost | Self::Died | Self::Done => ' ',
        }
    }

    /// Without a later mark it lasted to the end.
    fn goes_on(self) -> bool {
        matches!(self, Self::Asks | Self::Holds | Self::Struck | Self::Releases)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Asks => "asks",
            Self::Holds => "holds",
            Self::Turned => "not granted",
            Self::Struck => "struck",
            Self::Releases => "releases",
            Self::Lost => "told lost",
            Self::Died => "dies",
            Self::Done => "released",
        }
    }
}

fn marks(attempt: &Attempt<'_>) -> Vec<(Duration, Mark)> {
    let answer = attempt.answered.map(|(point, answer)| match answer {
        Answer::Acquired { .. } => (point, Mark::Holds),
        Answer::Refused | Answer::Failed => (point, Mark::Turned),
    });
    let mut marks: Vec<_> = [
        Some((attempt.invoked, Mark::Asks)),
        answer,
        attempt.struck.map(|point| (point, Mark::Struck)),
        attempt.release_invoked.map(|point| (point, Mark::Releases)),
        attempt.release_answered.map(|point| (point, Mark::Done)),
        attempt.lost.map(|point| (point, Mark::Lost)),
        attempt.died.map(|point| (point, Mark::Died)),
    ]
    .into_iter()
    .flatten()
    .collect();
    marks.sort_by_key(|(point, _)| *point);
    marks.into_iter().map(|(point, mark)| (point.at, mark)).collect()
}

fn title(attempt: &Attempt<'_>) -> String {
    let mode = match attempt.mode {
        Mode::Exclusive => "exclusive".to_owned(),
        Mode::Shared => "shared".to_owned(),
        Mode::Permit { max } => format!("permit/{max}"),
    };
    let token = attempt.token().map_or_else(String::new, |token| format!(" token {token}"));
    format!("{} {mode}{token}", attempt.name())
}
