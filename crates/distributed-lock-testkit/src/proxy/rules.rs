//! Which faults there are at the moment.

use std::time::Duration;

use tokio::sync::watch;

use super::Way;
use super::link::Link;

/// What becomes of new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Admission {
    /// They are served.
    #[default]
    Serves,
    /// Nobody listens.
    Refuses,
    /// They are accepted, and that is all.
    Mute,
}

/// The faults of all connections.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) admission: Admission,
    /// How often all connections were reset.
    pub(super) resets: u64,
    /// In the next request that has these bytes.
    pub(super) loses_reply_to: Option<Vec<u8>>,
    /// The next request that has these bytes.
    pub(super) holds: Option<Vec<u8>>,
    /// How often requests that were held were delivered.
    pub(super) deliveries: u64,
    to_server: WayFaults,
    to_client: WayFaults,
}

/// The faults of one direction.
#[derive(Debug, Default)]
pub(super) struct WayFaults {
    pub(super) latency: Duration,
    pub(super) jitter: Duration,
    /// Bytes a second.
    pub(super) bandwidth: Option<u64>,
    pub(super) stalls: bool,
    /// How many bytes are left until everything vanishes.
    pub(super) vanishes_after: Option<u64>,
    /// How many bytes are left until a connection is cut.
    pub(super) cut_after: Option<u64>,
}

/// What becomes of bytes that have arrived at the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    /// How many of them go on, the first ones.
    pub(super) passing: usize,
    /// Whether the connection ends after these.
    pub(super) is_cut: bool,
    /// How much later they go on.
    pub(super) latency: Duration,
    pub(super) jitter: Duration,
    pub(super) bandwidth: Option<u64>,
}

impl Faults {
    pub(super) fn way(&mut self, way: Way) -> &mut WayFaults {
        match way {
            Way::ToServer => &mut self.to_server,
            Way::ToClient => &mut self.to_client,
        }
    }

    fn seen(&self, way: Way) -> &WayFaults {
        match way {
            Way::ToServer => &self.to_server,
            Way::ToClient => &self.to_client,
        }
    }

    pub(super) fn stalls(&self, way: Way) -> bool {
        self.seen(way).stalls
    }

    /// Whether everything vanishes now.
    pub(super) fn vanishes(&self, way: Way) -> bool {
        self.seen(way).vanishes_after == Some(0)
    }
}

impl WayFaults {
    /// Counts bytes that arrive for a connection, and says what becomes of them.
    fn admit(&mut self, link: &Link, way: Way, arrived: usize) -> Verdict {
        let mut passing = if link.is_silent(way) { 0 } else { arrived };
        if let Some(left) = &mut self.vanishes_after {
            passing = take(left, passing);
        }
        if passing < arrived {
            link.silence(way);
        }
        let mut is_cut = false;
        if let Some(left) = &mut self.cut_after {
            let wanted = passing;
            passing = take(left, wanted);
            is_cut = passing < wanted;
        }
        if is_cut {
            self.cut_after = None;
        }
        let Self { latency, jitter, bandwidth, .. } = *self;
        Verdict { passing, is_cut, latency, jitter, bandwidth }
    }
}

/// Takes as much of `wanted` as is left.
fn take(left: &mut u64, wanted: usize) -> usize {
    let taken = wanted.min(usize::try_from(*left).unwrap_or(usize::MAX));
    *left -= u64::try_from(taken).unwrap_or(u64::MAX);
    taken
}

/// The faults, changed by the test and watched by every connection.
#[derive(Debug, Default)]
pub(super) struct Rules(watch::Sender<Faults>);

impl Rules {
    pub(super) fn change(&self, change: impl FnOnce(&mut Faults)) {
        self.0.send_modify(change);
    }

    /// Ends all faults; that connections were reset stays true.
    pub(super) fn heal(&self) {
        self.change(|faults| {
            let Faults { resets, deliveries, .. } = *faults;
            *faults = Faults { resets, deliveries, ..Faults::default() };
        });
    }

    pub(super) fn now<T>(&self, look: impl FnOnce(&Faults) -> T) -> T {
        look(&self.0.borrow())
    }

    /// Waits until the faults are so.
    pub(super) async fn until(&self, mut is_so: impl FnMut(&Faults) -> bool) {
        // The sender is here, so it cannot be gone.
        let _ = self.0.subscribe().wait_for(|faults| is_so(faults)).await;
    }

    /// Whether these bytes toward the server belong to the request that is to be held.
    pub(super) fn holds(&self, link: &Link, bytes: &[u8]) -> bool {
        let mut holds = false;
        self.0.send_if_modified(|faults| {
            // Only looked for where it is wanted: `admit` looks for others in the same bytes.
            if faults.holds.is_some() && link.has_seen(faults.holds.as_deref(), bytes) {
                faults.holds = None;
                holds = true;
            }
            false
        });
        holds
    }

    /// What becomes of bytes that have arrived.
    pub(super) fn admit(&self, link: &Link, way: Way, bytes: &[u8]) -> Verdict {
        let mut verdict = None;
        self.0.send_if_modified(|faults| {
            if way == Way::ToServer && link.has_seen(faults.loses_reply_to.as_deref(), bytes) {
                faults.loses_reply_to = None;
                link.silence(Way::ToClient);
            }
            verdict = Some(faults.way(way).admit(link, way, bytes.len()));
            // Everybody who waits does so for what only the test changes.
            false
        });
        verdict.expect("it was looked at")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passing(rules: &Rules, link: &Link, bytes: &[u8]) -> (usize, bool) {
        let verdict = rules.admit(link, Way::ToServer, bytes);
        (verdict.passing, verdict.is_cut)
    }

    #[test]
    fn bytes_are_counted_until_they_vanish_and_the_gap_is_never_passed() {
        let (rules, link, other) = (Rules::default(), Link::new(0), Link::new(0));
        rules.change(|faults| faults.way(Way::ToServer).vanishes_after = Some(5));
        assert_eq!(passing(&rules, &other, b"abc"), (3, false));
        assert_eq!(passing(&rules, &link, b"abc"), (2, false));
        rules.heal();
        assert_eq!(passing(&rules, &link, b"d"), (0, false));
        assert_eq!(passing(&rules, &other, b"d"), (1, false));
    }

    #[test]
    fn a_cut_happens_once_at_the_byte_after_the_last() {
        let (rules, link) = (Rules::default(), Link::new(0));
        rules.change(|faults| faults.way(Way::ToServer).cut_after = Some(3));
        assert_eq!(passing(&rules, &link, b"abc"), (3, false));
        assert_eq!(passing(&rules, &link, b"d"), (0, true));
        assert_eq!(passing(&rules, &link, b"d"), (1, false));
    }

    #[test]
    fn a_request_is_found_across_arrivals_and_only_its_reply_is_lost() {
        let (rules, link, other) = (Rules::default(), Link::new(0), Link::new(0));
        rules.change(|faults| faults.loses_reply_to = Some(b"secret".to_vec()));
        assert_eq!(passing(&rules, &link, b"a sec"), (5, false));
        assert_eq!(passing(&rules, &other, b"ret"), (3, false));
        assert!(!link.is_silent(Way::ToClient) && !other.is_silent(Way::ToClient));
        assert_eq!(passing(&rules, &link, b"ret"), (3, false));
        assert!(link.is_silent(Way::ToClient) && !link.is_silent(Way::ToServer));
        assert_eq!(passing(&rules, &other, b"secret"), (6, false));
        assert!(!other.is_silent(Way::ToClient));
    }
}
