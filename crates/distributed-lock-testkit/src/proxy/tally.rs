//! What has passed, and what was struck.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Way;

/// How often faults took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Effects {
    /// Arrivals of bytes that went on later: latency, jitter or bandwidth.
    pub delayed: u64,
    /// Arrivals of bytes that were kept until it was healed.
    pub stalled: u64,
    /// Arrivals of bytes that vanished.
    pub vanished: u64,
    /// Connections cut.
    pub cut: u64,
    /// Connections reset by the test.
    pub reset: u64,
    /// Connections accepted and never answered. (Of refused ones only the client knows.)
    pub muted: u64,
}

impl Effects {
    /// All together.
    #[must_use]
    pub fn total(&self) -> u64 {
        let Self { delayed, stalled, vanished, cut, reset, muted } = self;
        delayed + stalled + vanished + cut + reset + muted
    }
}

/// A number that grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, number: usize) {
        self.0.fetch_add(u64::try_from(number).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The proxy's counters.
#[derive(Debug, Default)]
pub(super) struct Tally {
    begun: Count,
    ended: Count,
    to_server: Count,
    to_client: Count,
    requests: Count,
    pub(super) delayed: Count,
    pub(super) stalled: Count,
    pub(super) vanished: Count,
    pub(super) cut: Count,
    pub(super) reset: Count,
    pub(super) held: Count,
    pub(super) delivered_late: Count,
    pub(super) muted: Count,
}

/// A connection that is open as long as this lives.
pub(super) struct Open<'a>(&'a Tally);

impl Tally {
    pub(super) fn open(&self) -> Open<'_> {
        self.begun.add(1);
        Open(self)
    }

    pub(super) fn delivered(&self, way: Way, bytes: usize) {
        match way {
            Way::ToServer => self.to_server.add(bytes),
            Way::ToClient => self.to_client.add(bytes),
        }
    }

    pub(super) fn requested(&self, requests: usize) {
        self.requests.add(requests);
    }

    pub(super) fn connections(&self) -> u64 {
        // In this order it never falls below zero.
        let ended = self.ended.get();
        self.begun.get() - ended
    }

    pub(super) fn connections_ever(&self) -> u64 {
        self.begun.get()
    }

    pub(super) fn bytes(&self, way: Way) -> u64 {
        match way {
            Way::ToServer => self.to_server.get(),
            Way::ToClient => self.to_client.get(),
        }
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.get()
    }

    pub(super) fn effects(&self) -> Effects {
        Effects {
            delayed: self.delayed.get(),
            stalled: self.stalled.get(),
            vanished: self.vanished.get(),
            cut: self.cut.get(),
            reset: self.reset.get(),
            muted: self.muted.get(),
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.ended.add(1);
    }
}
