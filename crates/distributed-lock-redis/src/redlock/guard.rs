//! The restart guard: which servers count.
//!
//! A server that comes back without its data grants what another client still holds. So servers
//! vouch for each other. Each keeps the run ids of its group, and how long it has known each of
//! them; a run id is new whenever a server was started. A server whose run id no other knows, while
//! some know others, is not counted until the guard time has passed since it was first seen: then
//! whatever it may have forgotten has run out.
//!
//! A group in which nobody knows a member is a new one and starts at once, if *all* servers say so.
//! After a loss of all data of all servers at the same time that is wrong: holders from before may
//! believe in their leases until the next extension.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use distributed_lock_core::clock::Moment;

use super::servers::{Quorum, ServerId, ServerSet};

/// What a server says when it is connected to, before any lock is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Introduction {
    /// Which run of which server this is.
    pub run_id: String,
    /// The run ids that it knows, and for how long; [`Duration::MAX`] for those that have been
    /// members from the beginning.
    pub knows: BTreeMap<String, Duration>,
}

/// Why a server does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It counts.
    Counts,
    /// It has not said who it is.
    Unknown,
    /// It may have forgotten locks; until this moment.
    NewUntil(Moment),
    /// It is the same as another server that was named before it.
    SameAs(ServerId),
}

/// What the servers have said of themselves and each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Group {
    quorum: Quorum,
    guard: Duration,
    said: BTreeMap<ServerId, Introduction>,
    /// When this client has seen a run id for the first time.
    seen: BTreeMap<String, Moment>,
    /// Run ids that were found to count; they do so as long as they run.
    accepted: BTreeSet<String>,
}

impl Group {
    /// A group of which nothing is known. A new server is not counted for `guard`.
    #[must_use]
    pub fn new(quorum: Quorum, guard: Duration) -> Self {
        let (said, seen, accepted) = Default::default();
        Self { quorum, guard, said, seen, accepted }
    }

    /// A server was connected to and has introduced itself.
    pub fn on_introduction(&mut self, now: Moment, server: ServerId, introduction: Introduction) {
        self.seen.entry(introduction.run_id.clone()).or_insert(now);
        self.said.insert(server, introduction);
        self.accept(now);
    }

    /// A server was told of others, and has answered with what it knows now.
    pub fn on_told(
        &mut self,
        now: Moment,
        server: ServerId,
        run_id: &str,
        knows: BTreeMap<String, Duration>,
    ) {
        // Not if it was another run of it, meanwhile replaced.
        if let Some(its) = self.said.get_mut(&server).filter(|its| its.run_id == run_id) {
            its.knows = knows;
            self.accept(now);
        }
    }

    /// Which run of a server has introduced itself last.
    #[must_use]
    pub fn run_id(&self, server: ServerId) -> Option<&str> {
        self.said.get(&server).map(|its| its.run_id.as_str())
    }

    fn accept(&mut self, now: Moment) {
        // Whoever is accepted now vouches from here on, so the order must not matter: judged all at once.
        let counts: Vec<_> =
            self.quorum.all().iter().filter(|server| self.is_vouched_for(now, *server)).collect();
        for server in counts {
            self.accepted.extend(self.said.get(&server).map(|said| said.run_id.clone()));
        }
    }

    /// Whether a server counts now.
    #[must_use]
    pub fn standing(&self, now: Moment, server: ServerId) -> Standing {
        let Some(said) = self.said.get(&server) else { return Standing::Unknown };
        let same = |(other, its): &(&ServerId, &Introduction)| {
            **other < server && its.run_id == said.run_id
        };
        if let Some((first, _)) = self.said.iter().find(same) {
            return Standing::SameAs(*first);
        }
        if self.accepted.contains(&said.run_id) || self.is_vouched_for(now, server) {
            return Standing::Counts;
        }
        let first = self.seen.get(&said.run_id).copied().unwrap_or(now);
        Standing::NewUntil(first.after(self.guard))
    }

    /// What this server should know and does not: the run ids of all that count now. They are told
    /// as members from the beginning.
    #[must_use]
    pub fn to_be_told(&self, now: Moment, server: ServerId) -> Vec<String> {
        let Some(its) = self.said.get(&server) else { return Vec::new() };
        let counting = self.counting(now);
        let others = self.said.iter().filter(|(other, _)| counting.contains(**other));
        let ids = others.map(|(_, said)| said.run_id.clone());
        ids.filter(|id| its.knows.get(id) != Some(&Duration::MAX)).collect()
    }

    /// What this server should note as seen for the first time: the run ids of those that are new.
    #[must_use]
    pub fn to_be_noted(&self, now: Moment, server: ServerId) -> Vec<String> {
        let Some(its) = self.said.get(&server) else { return Vec::new() };
        let is_new = |other: &ServerId| matches!(self.standing(now, *other), Standing::NewUntil(_));
        let others = self.said.iter().filter(|(other, _)| **other != server && is_new(other));
        let ids = others.map(|(_, said)| said.run_id.clone());
        ids.filter(|id| !its.knows.contains_key(id)).collect()
    }

    /// Every server that counts.
    #[must_use]
    pub fn counting(&self, now: Moment) -> ServerSet {
        let counts = |server: &ServerId| self.standing(now, *server) == Standing::Counts;
        self.quorum.all().iter().filter(counts).collect()
    }

    fn is_vouched_for(&self, now: Moment, server: ServerId) -> bool {
        let Some(said) = self.said.get(&server) else { return false };
        let others = || self.said.iter().filter(|(other, _)| **other != server).map(|(_, its)| its);
        let long_enough = |known_for: &Duration| *known_for >= self.guard;
        if others().any(|its| its.knows.get(&said.run_id).is_some_and(long_enough)) {
            return true;
        }
        let first = self.seen.get(&said.run_id).copied().unwrap_or(now);
        now.since(first) >= self.guard || self.is_new()
    }

    /// All servers know each other, and neither they nor this client know of anybody else.
    fn is_new(&self) -> bool {
        let runs: BTreeSet<_> = self.said.values().map(|its| &its.run_id).collect();
        let knows_them = |its: &Introduction| {
            let others = || runs.iter().filter(|id| ***id != its.run_id);
            its.knows.keys().all(|id| runs.contains(id))
                && others().all(|id| its.knows.contains_key(*id))
        };
        self.said.len() == self.quorum.all().len()
            && self.seen.keys().all(|id| runs.contains(id))
            && self.said.values().all(knows_them)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GUARD: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Moment {
        Moment::from_nanos(seconds * 1_000_000_000)
    }

    fn introduction(run_id: &str, knows: &[&str]) -> Introduction {
        let knows = knows.iter().map(|id| ((*id).to_owned(), Duration::MAX)).collect();
        Introduction { run_id: run_id.to_owned(), knows }
    }

    fn group(said: &[(&str, &[&str])]) -> Group {
        let mut group = Group::new(Quorum::of(3), GUARD);
        for (server, (id, knows)) in said.iter().enumerate() {
            let server = ServerId(u8::try_from(server).unwrap());
            group.on_introduction(at(0), server, introduction(id, knows));
        }
        group
    }

    fn counting(group: &Group, now: u64) -> Vec<u8> {
        group.counting(at(now)).iter().map(|server| server.0).collect()
    }

    /// What a server knows that has noted these just now.
    fn noted(ids: &[&str]) -> BTreeMap<String, Duration> {
        ids.iter().map(|id| ((*id).to_owned(), Duration::ZERO)).collect()
    }

    #[test]
    fn a_new_group_starts_when_all_have_written_down_who_the_others_are() {
        let partial = group(&[("a", &[]), ("b", &[])]);
        assert_eq!(counting(&partial, 0), [] as [u8; 0]);
        let mut whole = group(&[("a", &[]), ("b", &[]), ("c", &[])]);
        for (server, its) in [(0, "a"), (1, "b"), (2, "c")] {
            // Else nobody would miss one that restarts now.
            assert_eq!(counting(&whole, 0), [] as [u8; 0]);
            let others = whole.to_be_noted(at(0), ServerId(server));
            assert_eq!(others.len(), 2);
            let others: Vec<_> = others.iter().map(String::as_str).collect();
            whole.on_told(at(0), ServerId(server), its, noted(&others));
        }
        assert_eq!(counting(&whole, 0), [0, 1, 2]);
        assert_eq!(whole.to_be_told(at(0), ServerId(1)), ["a", "b", "c"]);
    }

    #[test]
    fn a_group_that_has_noted_anybody_else_is_not_new() {
        let mut group = group(&[("a2", &[]), ("b", &[]), ("c", &[])]);
        for (server, its, others) in
            [(0, "a2", ["b", "c"].as_slice()), (1, "b", &["a", "a2", "c"]), (2, "c", &["a2", "b"])]
        {
            group.on_told(at(0), ServerId(server), its, noted(others));
        }
        assert_eq!(counting(&group, 29), [] as [u8; 0]);
        assert_eq!(counting(&group, 30), [0, 1, 2]);
    }

    #[test]
    fn whom_this_client_has_seen_restart_is_not_new_although_nobody_else_noted_it() {
        let mut group = group(&[("a", &[]), ("b", &[]), ("c", &[])]);
        group.on_introduction(at(1), ServerId(2), introduction("c2", &[]));
        for (server, its, others) in [(0, "a", ["b", "c2"]), (1, "b", ["a", "c2"])] {
            group.on_told(at(1), ServerId(server), its, noted(&others));
        }
        group.on_told(at(1), ServerId(2), "c2", noted(&["a", "b"]));
        assert_eq!(counting(&group, 29), [] as [u8; 0]);
    }

    #[test]
    fn what_an_earlier_run_has_answered_is_not_taken_for_the_next_ones() {
        let all: &[&str] = &["a", "b", "c"];
        let mut group = group(&[("a", &[]), ("b", all), ("c", all)]);
        group.on_introduction(at(1), ServerId(0), introduction("a2", &[]));
        group.on_told(at(1), ServerId(0), "a", noted(&["b"]));
        assert_eq!(group.to_be_told(at(1), ServerId(0)), ["b", "c"]);
    }

    #[test]
    fn members_are_known_also_while_one_is_away() {
        let two = group(&[("a", &["a", "b", "c"]), ("b", &["a", "b", "c"])]);
        assert_eq!(counting(&two, 0), [0, 1]);
    }

    #[test]
    fn a_server_that_restarted_empty_or_not_is_not_counted_until_the_guard_has_passed() {
        let all: &[&str] = &["a", "b", "c"];
        for its in [&[], all] {
            let mut group = group(&[("a", all), ("b", all), ("c2", its)]);
            assert_eq!(counting(&group, 29), [0, 1]);
            assert_eq!(group.standing(at(3), ServerId(2)), Standing::NewUntil(at(30)));
            assert_eq!(group.to_be_noted(at(3), ServerId(0)), ["c2"]);
            assert_eq!(counting(&group, 30), [0, 1, 2]);
            // Another client, later: the others have noted when it came.
            let mut knows = introduction("a", all).knows;
            knows.insert("c2".to_owned(), Duration::from_secs(30));
            group.on_told(at(0), ServerId(0), "a", knows);
            assert_eq!(counting(&group, 0), [0, 1, 2]);
        }
    }

    #[test]
    fn two_that_restarted_do_not_vouch_for_each_other() {
        let all: &[&str] = &["a", "b", "c"];
        let group = group(&[("a", all), ("b2", &[]), ("c2", &[])]);
        assert_eq!(counting(&group, 0), [] as [u8; 0]);
    }

    #[test]
    fn a_reconnection_to_the_same_run_changes_nothing() {
        let all: &[&str] = &["a", "b", "c"];
        let mut group = group(&[("a", all), ("b", all), ("c", all)]);
        group.on_introduction(at(5), ServerId(1), introduction("b", all));
        assert_eq!(counting(&group, 5), [0, 1, 2]);
        group.on_introduction(at(6), ServerId(1), introduction("b2", &[]));
        assert_eq!(counting(&group, 6), [0, 2]);
    }

    #[test]
    fn one_server_named_twice_counts_once() {
        let group = group(&[("a", &["c"]), ("a", &["c"]), ("c", &["a"])]);
        assert_eq!(group.standing(at(0), ServerId(1)), Standing::SameAs(ServerId(0)));
        assert_eq!(counting(&group, 0), [0, 2]);
    }

    proptest! {
        /// In whatever order servers come, one whose run id is strange to a group that knows its
        /// members never counts before the guard has passed, unless it was there before.
        #[test]
        fn strangers_never_count_early(
            order in Just(vec![0_u8, 1, 2]).prop_shuffle(),
            restarted in prop::collection::vec(any::<bool>(), 3),
            keeps_data in prop::collection::vec(any::<bool>(), 3),
            now in 0_u64..30,
        ) {
            prop_assume!(restarted.contains(&false) || keeps_data.contains(&true));
            let ids = ["a", "b", "c"];
            let mut group = Group::new(Quorum::of(3), GUARD);
            for server in order {
                let index = usize::from(server);
                let id = if restarted[index] { format!("{}2", ids[index]) } else { ids[index].to_owned() };
                let forgot = restarted[index] && !keeps_data[index];
                let knows: &[&str] = if forgot { &[] } else { &ids };
                group.on_introduction(at(0), ServerId(server), introduction(&id, knows));
                let early = |server: ServerId| {
                    // With only one server that knows anything, it has nobody to doubt.
                    restarted[usize::from(server.0)] && {
                        let others = (0..3).filter(|other| *other != usize::from(server.0));
                        others.clone().any(|other| !restarted[other] || keeps_data[other])
                    }
                };
                let counted = group.counting(at(now));
                prop_assert!(!counted.iter().any(early), "{counted:?} of {restarted:?}");
            }
        }
    }
}
