//! The signals that `dlock` receives.

use std::future::{Future, poll_fn};
use std::task::Poll;

use nix::sys::signal::Signal;
use tokio::signal::unix::{self, SignalKind};

use crate::exit::{self, Failure, UNAVAILABLE};

/// Signals that end `dlock` while it waits.
pub(crate) const ENDING: [Signal; 4] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// Signals that are caught from when the command starts, besides [`ENDING`].
///
/// `SIGTSTP` is passed on like the others; `SIGCONT` says that `dlock` was continued.
pub(crate) const WHILE_RUNNING: [Signal; 4] =
    [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGTSTP, Signal::SIGCONT];

/// Catches signals until the process ends.
pub(crate) struct Signals {
    ignored: u64,
    streams: Vec<(Signal, unix::Signal)>,
}

impl Signals {
    /// Catches [`ENDING`], except those that the caller of `dlock` has it ignore.
    ///
    /// `nohup` and shells that start jobs in the background make their children ignore signals;
    /// `dlock` and the command go on doing so.
    pub(crate) fn catch() -> Result<Self, Failure> {
        let mut signals = Self { ignored: ignored(), streams: Vec::new() };
        signals.also(&ENDING)?;
        Ok(signals)
    }

    /// Catches these as well.
    pub(crate) fn also(&mut self, more: &[Signal]) -> Result<(), Failure> {
        for &signal in more {
            if self.ignored & bit(signal) == 0 {
                let stream =
                    unix::signal(SignalKind::from_raw(signal as i32)).map_err(|error| {
                        Failure::new(UNAVAILABLE, format!("cannot catch {signal}")).because(&error)
                    })?;
                self.streams.push((signal, stream));
            }
        }
        Ok(())
    }

    /// The next signal. Nothing is missed if the future is dropped.
    pub(crate) async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            for (signal, stream) in &mut self.streams {
                if let Poll::Ready(Some(())) = stream.poll_recv(context) {
                    return Poll::Ready(*signal);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Runs `future` unless a signal ends it, which is then the failure.
    pub(crate) async fn interrupting<F: Future>(
        &mut self,
        future: F,
    ) -> Result<F::Output, Failure> {
        tokio::select! {
            biased;
            signal = self.next() => Err(Failure::silent(exit::of_signal(signal as i32))),
            output = future => Ok(output),
        }
    }
}

fn bit(signal: Signal) -> u64 {
    1 << (signal as i32 - 1)
}

/// The set of ignored signals, where the system tells it without a call that is `unsafe`.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    parse_ignored(&status).unwrap_or_default()
}

fn parse_ignored(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status() {
        let mask = parse_ignored("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n").unwrap();
        assert_ne!(mask & bit(Signal::SIGHUP), 0);
        assert_ne!(mask & bit(Signal::SIGPIPE), 0);
        assert_eq!(mask & bit(Signal::SIGTERM), 0);
        assert_eq!(parse_ignored("Name:\tdlock\n"), None);
    }
}
