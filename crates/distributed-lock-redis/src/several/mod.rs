//! Locks on a majority of several servers: the machines of [`redlock`](crate::redlock), driven over
//! the client of each server.

mod acquire;
mod away;
mod extend;
mod failures;
mod fanout;
mod hold;
mod member;
mod permit;
mod place;
mod regain;
mod undo;
mod vote;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use distributed_lock_core::clock::{Clock, Moment};
use distributed_lock_core::error::{LockError, LockResult, NoAnswer};
use distributed_lock_core::timers::Timers;
use distributed_lock_core::{Guarantees, HoldEnds, Holder, LockName, Mode, TokenDurability};
use tokio::sync::Notify;

use self::away::Visits;
use crate::free::Contended;
use crate::holder;
use crate::key::RedisKey;
use crate::options::RedisOptions;
use crate::redlock::guard::Group;
use crate::redlock::servers::{Quorum, ServerId};
use crate::redlock::timing::Timing;

pub(crate) use fanout::longest_wait;
pub(crate) use hold::QuorumGrant;
pub(crate) use member::Member;
pub(crate) use place::QuorumPlace;

/// A slot-based semaphore has no more permits.
const MOST_PERMITS: u32 = 65_536;

/// Several servers, of which a majority decides.
pub(crate) struct Several {
    pub(crate) members: Vec<Member>,
    group: Mutex<Group>,
    quorum: Quorum,
    timing: Timing,
    pub(crate) options: RedisOptions,
    operation_timeout: Duration,
    clock: Arc<dyn Clock>,
    visits: Mutex<Visits>,
    /// A vote is to be taken back later.
    debt_added: Notify,
    contended: Contended,
    timers: Timers,
}

impl Several {
    pub(crate) fn new(
        members: Vec<Member>,
        options: RedisOptions,
        operation_timeout: Duration,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let quorum = Quorum::of(u8::try_from(members.len()).unwrap_or(Quorum::MOST));
        let group = Mutex::new(Group::new(quorum, options.restart_guard));
        let patience = patience(options.expiry, operation_timeout);
        let timing = Timing::new(options.expiry, options.min_validity, patience);
        let (visits, debt_added, contended, timers) = Default::default();
        Arc::new(Self {
            members,
            group,
            quorum,
            timing,
            options,
            operation_timeout,
            clock,
            visits,
            debt_added,
            contended,
            timers,
        })
    }

    pub(crate) fn resolve(&self, name: LockName<'_>, mode: Mode) -> LockResult<RedisKey> {
        match mode {
            Mode::Permit { max } if max > MOST_PERMITS => Err(LockError::Unsupported(format!(
                "{max} permits: on several servers at most {MOST_PERMITS}"
            ))),
            _ => RedisKey::new(&self.options.key_prefix, name, mode),
        }
    }

    pub(crate) fn guarantees(&self) -> Guarantees {
        let ends = HoldEnds::WithLease(self.options.expiry);
        Guarantees::new(ends, self.options.extension_cadence)
            .with_tokens(TokenDurability::SurviveDataLoss, "one name on one group of servers")
    }

    /// As the first server that answers says.
    pub(crate) async fn holder(&self, key: &RedisKey) -> LockResult<Option<Holder>> {
        if key.is_semaphore() {
            return Ok(None);
        }
        let asked = self.members.iter().map(|member| Box::pin(holder::of(&member.client, key)));
        Ok(futures_util::future::select_ok(asked).await?.0)
    }

    fn member(&self, server: ServerId) -> &Member {
        &self.members[usize::from(server.0)]
    }

    fn now(&self) -> Moment {
        self.clock.now()
    }

    fn group(&self) -> MutexGuard<'_, Group> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn too_few(&self) -> LockError {
        LockError::connection(NoAnswer(self.longest_wait()))
    }
}

impl std::fmt::Debug for Several {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Several").field("members", &self.members).finish_non_exhaustive()
    }
}

/// How long one server may take: a small share of the lease, and of the time for the whole.
fn patience(expiry: Duration, operation_timeout: Duration) -> Duration {
    const SHORTEST: Duration = Duration::from_millis(50);
    (expiry / 8).max(SHORTEST).min(expiry / 4).min(operation_timeout / 3)
}
