//! Servers that do not answer. Once that is known nobody waits for them, as long as the others can
//! decide; in the background they are visited until they are back, and what was to be undone there
//! is undone then.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use distributed_lock_core::background::library_runtime;
use distributed_lock_core::clock::Moment;
use distributed_lock_core::error::{LockError, LockResult};
use futures_util::future::join_all;

use super::place::RoundRequests;
use super::undo::{End, Undo};
use super::{Member, Several};
use crate::link::Link;
use crate::redlock::servers::{ServerId, ServerSet};

/// The votes that are to be taken back from one server, by their owners, and until when they may
/// last there.
pub(super) type Debts = BTreeMap<String, (Arc<RoundRequests>, Moment)>;

/// The background visits of one provider.
#[derive(Debug, Default)]
pub(super) struct Visits {
    are_made: bool,
    /// Since the last one, somebody did without a server that is away.
    are_wanted: bool,
}

/// The pause before a server is visited again, at first and whenever a new vote is to be taken back:
/// two connections a second at most. The pauses then double.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Pauses between visits grow to so many fallback periods.
const LONGEST_PAUSE: u32 = 4;

impl Member {
    /// The link in use. A server that cannot be connected to is away.
    pub(super) async fn link(&self) -> LockResult<Arc<Link>> {
        let link = self.client.link().await;
        if matches!(link, Err(LockError::Connection(_))) {
            self.is_away.store(true, Ordering::Relaxed);
        }
        link
    }

    fn is_away(&self) -> bool {
        self.is_away.load(Ordering::Relaxed)
    }

    /// It has answered.
    pub(super) fn is_back(&self) {
        if self.is_away() && self.is_away.swap(false, Ordering::Relaxed) {
            tracing::info!(server = self.id.0 + 1, "a server answers again");
        }
    }

    fn debts(&self) -> MutexGuard<'_, Debts> {
        self.debts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Several {
    /// Those whose answers are worth waiting for: all but who is known to be away. Everybody, if the
    /// others are no majority: then there is nothing better to do.
    pub(super) fn reachable(self: &Arc<Self>) -> ServerSet {
        let here = self.members.iter().filter(|member| !member.is_away());
        let here: ServerSet = here.map(|member| member.id).collect();
        if here == self.quorum.all() {
            return here;
        }
        self.visit_soon();
        if self.quorum.has(here) { here } else { self.quorum.all() }
    }

    /// These were asked and have said nothing for as long as a server may take. If that is a
    /// majority, it may be this process that was not quick enough.
    pub(super) fn are_silent(self: &Arc<Self>, servers: ServerSet) {
        if servers.is_empty() || !self.quorum.has(self.quorum.all().without(servers)) {
            return;
        }
        for member in self.members.iter().filter(|member| servers.contains(member.id)) {
            tracing::warn!(server = member.id.0 + 1, "a server does not answer");
            member.is_away.store(true, Ordering::Relaxed);
        }
        self.visit_soon();
    }

    /// Undoes a round on these servers as soon as they answer.
    pub(super) fn undo_later(self: &Arc<Self>, requests: &Arc<RoundRequests>, servers: ServerSet) {
        let mut undo = Undo::of(self, requests, servers);
        servers.iter().for_each(|server| undo.failed(server));
    }

    /// Undoes a round on this server as soon as it answers, but not after that moment.
    pub(super) fn undo_later_on(
        self: &Arc<Self>,
        requests: &Arc<RoundRequests>,
        server: ServerId,
        until: Moment,
    ) {
        let debt = (Arc::clone(requests), until);
        self.member(server).debts().insert(requests.owner.clone(), debt);
        self.debt_added.notify_one();
        self.visit_soon();
    }

    /// On the library thread, so that it ends with no runtime that a provider is used from.
    fn visit_soon(self: &Arc<Self>) {
        let mut visits = self.visits();
        visits.are_wanted = true;
        if let Some(library) = library_runtime()
            && !std::mem::replace(&mut visits.are_made, true)
        {
            drop(library.spawn(Arc::clone(self).visit_until_settled()));
        }
    }

    async fn visit_until_settled(self: Arc<Self>) {
        let longest = self.options.fallback_period() * LONGEST_PAUSE;
        let mut pause = FIRST_PAUSE;
        loop {
            self.visits().are_wanted = false;
            let needed = |member: &&Member| member.is_away() || !member.debts().is_empty();
            join_all(self.members.iter().filter(needed).map(|member| self.visit(member))).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Long pauses are for servers that are away, not for a vote that was left a moment ago.
                () = self.debt_added.notified() => {
                    pause = FIRST_PAUSE;
                    tokio::time::sleep(pause).await;
                }
            }
            pause = (pause * 2).min(longest);
            let mut visits = self.visits();
            if !visits.are_wanted && self.members.iter().all(|member| member.debts().is_empty()) {
                visits.are_made = false;
                return;
            }
        }
    }

    /// On a connection of its own: the server's usual one stays where it is used.
    async fn visit(&self, member: &Member) {
        let now = self.now();
        member.debts().retain(|_, (_, ends)| *ends > now);
        let limit = self.timing.patience;
        let Ok(Ok(link)) = tokio::time::timeout(limit, member.client.link_apart()).await else {
            return;
        };
        let owed: Vec<_> =
            member.debts().values().map(|(requests, _)| Arc::clone(requests)).collect();
        for requests in owed {
            let undone = self.undo_over(&link, member, &requests, End::Whole);
            match tokio::time::timeout(limit, undone).await {
                Ok(Ok(_)) => drop(member.debts().remove(&requests.owner)),
                // It may be refused for good; what comes after it is undone all the same.
                Ok(Err(LockError::Backend(_))) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
        if member.is_away() {
            // Its connection may be one on which nothing comes through any more.
            member.client.leave_link();
            member.is_back();
        }
    }

    fn visits(&self) -> MutexGuard<'_, Visits> {
        self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
