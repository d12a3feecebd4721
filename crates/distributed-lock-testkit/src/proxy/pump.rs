//! One way of a connection.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::Way;
use super::door::Proxy;
use super::link::Link;
use super::requests::Requests;
use super::rules::Verdict;
use crate::worker::random::Random;

/// How many bytes are taken at once.
const PART: usize = 16 * 1024;

/// How many parts wait for their latency before the sender must.
const WAITING: usize = 256;

/// How a connection ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// In good order, as far as either side can tell.
    Closed,
    /// By a reset.
    Broken,
    /// For the client; the server is to get these bytes of it later.
    Held(Vec<u8>),
}

/// Bytes on their way.
struct Part {
    bytes: Vec<u8>,
    due: Instant,
    /// Whether the connection ends here.
    is_cut: bool,
}

/// Carries bytes until their source ends, and passes on that it has; an error ends the connection.
pub(super) async fn pump(
    proxy: &Proxy,
    link: &Link,
    way: Way,
    source: ReadHalf<'_>,
    sink: WriteHalf<'_>,
) -> Result<(), Ending> {
    let (queue, parts) = mpsc::channel(WAITING);
    let taken = take(proxy, link, way, source, queue);
    tokio::try_join!(taken, deliver(proxy, way, sink, parts)).map(|_| ())
}

/// Takes what comes, and decides what becomes of it.
async fn take(
    proxy: &Proxy,
    link: &Link,
    way: Way,
    mut source: ReadHalf<'_>,
    queue: mpsc::Sender<Part>,
) -> Result<(), Ending> {
    let (mut requests, mut schedule) = (Requests::default(), Schedule::default());
    let mut arrived = vec![0; PART];
    loop {
        let result = source.read(&mut arrived).await;
        let count = *result.as_ref().unwrap_or(&0);
        if count == 0 {
            // The end of a connection vanishes like everything else.
            proxy.rules.until(|faults| !faults.vanishes(way)).await;
            let is_broken = result.is_err() || link.is_silent(way);
            return if is_broken { Err(Ending::Broken) } else { Ok(()) };
        }
        let bytes = &arrived[..count];
        if way == Way::ToServer {
            proxy.tally.requested(requests.count(bytes));
            if proxy.rules.holds(link, bytes) {
                return Err(Ending::Held(bytes.to_vec()));
            }
        }
        let verdict = proxy.rules.admit(link, way, bytes);
        if verdict.passing < count && !verdict.is_cut {
            proxy.tally.vanished.add(1);
        }
        let now = Instant::now();
        let due = schedule.due(now, verdict);
        if due > now && verdict.passing > 0 {
            proxy.tally.delayed.add(1);
        }
        let part = Part { bytes: bytes[..verdict.passing].to_vec(), due, is_cut: verdict.is_cut };
        if queue.send(part).await.is_err() {
            // Nobody to deliver to: see there.
            return Ok(());
        }
    }
}

/// Delivers in order, each part when it is due.
async fn deliver(
    proxy: &Proxy,
    way: Way,
    mut sink: WriteHalf<'_>,
    mut parts: mpsc::Receiver<Part>,
) -> Result<(), Ending> {
    while let Some(part) = parts.recv().await {
        if proxy.rules.now(|faults| faults.stalls(way)) {
            proxy.tally.stalled.add(1);
            proxy.rules.until(|faults| !faults.stalls(way)).await;
        }
        sleep_until(part.due).await;
        if sink.write_all(&part.bytes).await.is_err() {
            // Whether the other side learns of it is a matter of the way back.
            let back = way.back();
            proxy.rules.until(|faults| !faults.vanishes(back)).await;
            return Err(Ending::Broken);
        }
        proxy.tally.delivered(way, part.bytes.len());
        if part.is_cut {
            proxy.tally.cut.add(1);
            return Err(Ending::Closed);
        }
    }
    // If it is gone already, it knows.
    let _ = sink.shutdown().await;
    Ok(())
}

impl Way {
    fn back(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }
}

/// When bytes go on: never before those that came before.
#[derive(Debug)]
struct Schedule {
    latest: Option<Instant>,
    random: Random,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { latest: None, random: Random::new(1) }
    }
}

impl Schedule {
    fn due(&mut self, now: Instant, verdict: Verdict) -> Instant {
        let late = now + verdict.latency + self.random.up_to(verdict.jitter);
        let mut due = self.latest.map_or(late, |latest| late.max(latest));
        if let Some(bandwidth) = verdict.bandwidth {
            let bytes = u64::try_from(verdict.passing).unwrap_or(u64::MAX);
            due += Duration::from_micros(bytes.saturating_mul(1_000_000) / bandwidth);
        }
        self.latest = Some(due);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENCY: Duration = Duration::from_millis(100);
    const JITTER: Duration = Duration::from_millis(50);

    fn verdict(jitter: Duration, bandwidth: Option<u64>) -> Verdict {
        Verdict { passing: 10, is_cut: false, latency: LATENCY, jitter, bandwidth }
    }

    #[tokio::test(start_paused = true)]
    async fn jitter_spreads_what_is_due_within_its_bounds_and_keeps_the_order() {
        let (now, mut late) = (Instant::now(), Vec::new());
        for _ in 0..100 {
            let mut schedule = Schedule { latest: None, random: Random::new(late.len() as u64) };
            late.push(schedule.due(now, verdict(JITTER, None)) - now);
        }
        assert!(late.iter().all(|late| (LATENCY..=LATENCY + JITTER).contains(late)));
        let (least, most) = (late.iter().min().unwrap(), late.iter().max().unwrap());
        assert!(*most - *least > JITTER / 2, "between {least:?} and {most:?}");

        let mut schedule = Schedule::default();
        let due: Vec<_> = (0..100).map(|_| schedule.due(now, verdict(JITTER, None))).collect();
        assert!(due.is_sorted());
    }

    #[tokio::test(start_paused = true)]
    async fn bandwidth_is_shared_by_what_comes_at_once_and_free_again_later() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        // Ten bytes at a hundred a second.
        let mut late = |now| schedule.due(now, verdict(Duration::ZERO, Some(100))) - now;
        assert_eq!(late(now), LATENCY + Duration::from_millis(100));
        assert_eq!(late(now), LATENCY + Duration::from_millis(200));
        assert_eq!(late(now + LATENCY * 10), LATENCY + Duration::from_millis(100));
    }
}
