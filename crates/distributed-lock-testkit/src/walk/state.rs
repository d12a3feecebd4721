//! What a server has, read after each request that it has executed.

use std::collections::HashMap;

use super::resp::Value;

/// The keys of the one resource that a walk is about. Times are the server's, in ms.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// When it was read.
    pub(super) now: i64,
    /// The mutex key's value, and when it expires. A permit on several servers has one of its own.
    pub(super) mutexes: Vec<(String, i64)>,
    /// Readers or permits, with the ends of their leases.
    holders: Vec<(String, i64)>,
    /// The tokens of those in the queue, in order.
    pub(super) queue: Vec<String>,
    /// What is known of those who wait and of withdrawn attempts.
    pub(super) waiters: HashMap<String, String>,
    /// A key that never expires.
    pub(super) endless: Option<String>,
    is_semaphore: bool,
}

/// What a waiter's entry says.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) tick: i64,
    pub(super) period: i64,
    pub(super) channel: String,
}

impl State {
    pub(super) fn read(reply: Value, now: i64) -> Self {
        let mut state = Self { now, ..Self::default() };
        for key in reply.list() {
            let mut parts = key.list();
            let (Some(content), Some(rest), Some(name)) = (parts.pop(), parts.pop(), parts.pop())
            else {
                continue;
            };
            state.take(&name.text(), rest.number(), content.list());
        }
        state
    }

    fn take(&mut self, name: &str, rest: i64, content: Vec<Value>) {
        if rest == -1 {
            self.endless = Some(name.to_owned());
        }
        let beside = name.strip_prefix("distributed-lock/1:");
        let kind = beside.map_or("mutex", |beside| {
            let (_, kind) = beside.split_once("}:").unwrap_or_default();
            kind.split(':').next().unwrap_or_default()
        });
        let pairs = || content.chunks_exact(2).map(|pair| (pair[0].text(), &pair[1]));
        match kind {
            "readers" | "permits" => {
                self.is_semaphore |= kind == "permits";
                self.holders = pairs().map(|(member, end)| (member, end.number())).collect();
            }
            "queue" | "permit-queue" | "quorum-queue" | "quorum-permit-queue" => {
                self.queue = pairs().map(|(token, _)| token).collect();
            }
            "waiters" | "permit-waiters" | "quorum-waiters" | "quorum-permit-waiters" => {
                self.waiters = pairs().map(|(token, entry)| (token, entry.text())).collect();
            }
            kind if kind == "mutex"
                || kind.strip_prefix("permit-").is_some_and(|slot| slot.parse::<u32>().is_ok()) =>
            {
                let value = content.first().map(Value::text).unwrap_or_default();
                self.mutexes.push((value, self.now + rest));
            }
            _ => {}
        }
    }

    /// The tokens of those who hold, at a time that is not before this was read.
    pub(super) fn owners(&self, now: i64) -> Vec<String> {
        let token = |value: &str| value.chars().take(32).collect::<String>();
        // A key lasts through the millisecond of its expiry, and so does the marker of the readers; a
        // permit has no key.
        let live = |end: i64| end > now || end == now && !self.is_semaphore;
        let mutexes = self.mutexes.iter().filter(|(_, end)| *end >= now);
        let (markers, writers): (Vec<_>, Vec<_>) =
            mutexes.partition(|(value, _)| value.starts_with("r:"));
        let mut owners: Vec<String> = writers.iter().map(|(value, _)| token(value)).collect();
        if self.is_semaphore || !markers.is_empty() {
            let holders = self.holders.iter().filter(|(_, end)| live(*end));
            owners.extend(holders.map(|(member, _)| token(member)));
        }
        owners
    }

    /// What it knows of one who waits.
    pub(super) fn entry(&self, token: &str) -> Option<Entry> {
        let mut words = self.waiters.get(token)?.split(' ');
        let tick = words.next()?.parse().ok()?;
        let period = words.next()?.parse().ok()?;
        let _lease = words.next()?;
        let channel = words.nth(2)?.to_owned();
        Some(Entry { tick, period, channel })
    }

    /// Until when an attempt counts as withdrawn.
    pub(super) fn tombstone(&self, token: &str) -> Option<i64> {
        self.waiters.get(token)?.parse().ok()
    }

    /// Whether there is a trace of anybody who holds or waits.
    pub(super) fn is_empty(&self, now: i64) -> bool {
        self.owners(now).is_empty() && self.queue.is_empty()
    }
}
