//! One of several servers, and how it introduces itself before it is asked for a lock.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use distributed_lock_core::error::{LockError, LockResult};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::Value;

use super::Several;
use super::away::Debts;
use super::failures::Failures;
use crate::client::Client;
use crate::failure::{ServerError, forbids, lock_error};
use crate::health;
use crate::link::Link;
use crate::redlock::guard::{Introduction, Standing};
use crate::redlock::sent::LinkId;
use crate::redlock::servers::{ServerId, ServerSet};
use crate::script::{INTRODUCE, Run};

/// The key under which a server keeps the run ids of its group.
const MEMBERS: &str = "distributed-lock/1:{members}";

/// One of several servers.
pub(crate) struct Member {
    pub(crate) id: ServerId,
    pub(crate) client: Arc<Client>,
    /// The link on which the server has introduced itself, plus one.
    introduced_on: AtomicU64,
    /// It is known not to answer.
    pub(super) is_away: AtomicBool,
    pub(super) debts: Mutex<Debts>,
}

impl Member {
    pub(crate) fn new(id: ServerId, client: Arc<Client>) -> Self {
        let (introduced_on, is_away, debts) = Default::default();
        Self { id, client, introduced_on, is_away, debts }
    }
}

impl Link {
    /// The link as the machines know it.
    pub(super) fn id(&self) -> LinkId {
        LinkId(self.number)
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Member").field(&self.id.0).finish()
    }
}

/// Why a server that answers was not asked.
#[derive(Debug)]
struct NotCounted(Standing);

impl fmt::Display for NotCounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Standing::SameAs(other) => {
                write!(f, "the server is the same as number {}", other.0 + 1)
            }
            _ => f.write_str("the server was restarted and is not counted yet (restart_guard)"),
        }
    }
}

impl std::error::Error for NotCounted {}

/// Why a server cannot be one of several: what its user may not do.
#[derive(Debug)]
struct Forbidden {
    what: &'static str,
    source: Box<dyn std::error::Error + Send + Sync>,
}

const INFO: &str = "the user may not run INFO, which says whether a server was restarted; \
                    remedy: ACL SETUSER <user> +info";

const MEMBERS_KEY: &str = "the user may not use the key of the group; \
                           remedy: ACL SETUSER <user> ~distributed-lock/1:{members}";

impl Forbidden {
    fn or(what: &'static str, error: ServerError) -> LockError {
        match forbids(&error) {
            true => LockError::backend(Self { what, source: error.into() }),
            false => lock_error(error),
        }
    }
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl std::error::Error for Forbidden {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}

impl Several {
    /// A link to a server that counts.
    pub(super) async fn ready(&self, member: &Member) -> LockResult<Arc<Link>> {
        let link = self.introduced(member).await?;
        let standing = self.group().standing(self.now(), member.id);
        match standing {
            Standing::Counts => Ok(link),
            _ => Err(LockError::connection(NotCounted(standing))),
        }
    }

    /// A link to a server that has said who it is.
    async fn introduced(&self, member: &Member) -> LockResult<Arc<Link>> {
        let link = member.link().await?;
        if member.introduced_on.load(Ordering::Acquire) != link.number + 1 {
            self.introduce(member, &link).await?;
            self.tell(member, &link).await;
        }
        Ok(link)
    }

    /// Asks all servers who they are, and tells each who the others are.
    ///
    /// # Errors
    /// `Config` if two are the same; what the servers have said if too few did.
    pub(crate) async fn introduce_all(self: &Arc<Self>) -> LockResult<()> {
        let mut asked: FuturesUnordered<_> = self
            .members
            .iter()
            .map(|member| async move {
                let introduced = async {
                    let link = member.link().await?;
                    self.introduce(member, &link).await
                };
                (member.id, introduced.await)
            })
            .collect();
        let (mut introduced, mut failures) = (ServerSet::NONE, Failures::default());
        // The last of them are waited for as long as a request may take, no longer.
        let patience = tokio::time::sleep(self.longest_wait());
        tokio::pin!(patience);
        let mut is_late = false;
        while introduced != self.quorum.all() && !is_late {
            tokio::select! {
                biased;
                result = asked.next() => match result {
                    Some((server, Ok(()))) => drop(introduced.insert(server)),
                    Some((server, Err(error))) => failures.add(server, error),
                    None => break,
                },
                () = &mut patience => is_late = true,
            }
            let counting = self.group().counting(self.now());
            if self.quorum.has(counting) {
                // A minority that hangs is not waited for longer than a lock's request would be.
                let soon = tokio::time::Instant::now() + self.timing.patience;
                if soon < patience.deadline() {
                    patience.as_mut().reset(soon);
                }
            }
        }
        drop(asked);
        self.are_silent(self.quorum.all().without(introduced));
        if let Some((one, other)) = self.same() {
            return Err(LockError::Config(format!(
                "servers {} and {} are the same one: RedLock needs independent servers",
                one.0 + 1,
                other.0 + 1
            )));
        }
        if !self.quorum.has(introduced) {
            return Err(failures.error(self));
        }
        // Of a new group first who the others are; when all know that, that they count.
        self.tell_all().await;
        self.tell_all().await;
        Ok(())
    }

    fn same(&self) -> Option<(ServerId, ServerId)> {
        let group = self.group();
        self.quorum.all().iter().find_map(|server| match group.standing(self.now(), server) {
            Standing::SameAs(first) => Some((first, server)),
            _ => None,
        })
    }

    async fn introduce(&self, member: &Member, link: &Link) -> LockResult<()> {
        let info = health::info(link).await.map_err(|error| Forbidden::or(INFO, error))?;
        let Some(run_id) = info.get("run_id").cloned() else {
            return Err(LockError::backend("INFO does not tell the server's run id"));
        };
        let knows = knows(link, &[]).await?;
        let introduction = Introduction { run_id, knows };
        let now = self.now();
        self.group().on_introduction(now, member.id, introduction);
        let standing = self.group().standing(now, member.id);
        if let Standing::NewUntil(_) = standing {
            tracing::warn!(server = member.id.0 + 1, "a restarted server is not counted yet");
        }
        member.introduced_on.store(link.number + 1, Ordering::Release);
        Ok(())
    }

    /// Tells every server what it does not know of the others.
    async fn tell_all(self: &Arc<Self>) {
        let reachable = self.reachable();
        let told: FuturesUnordered<_> = self
            .members
            .iter()
            .filter(|member| reachable.contains(member.id))
            .map(|member| async move {
                if let Ok(link) = self.introduced(member).await {
                    self.tell(member, &link).await;
                }
            })
            .collect();
        let all = told.for_each(|()| std::future::ready(()));
        // Who was not told now is told when it is connected to again.
        let _ = tokio::time::timeout(self.timing.patience, all).await;
    }

    async fn tell(&self, member: &Member, link: &Link) {
        let now = self.now();
        let (run_id, old, new) = {
            let group = self.group();
            let run_id = group.run_id(member.id).unwrap_or_default().to_owned();
            (run_id, group.to_be_told(now, member.id), group.to_be_noted(now, member.id))
        };
        if old.is_empty() && new.is_empty() {
            return;
        }
        let old_words = old.iter().map(|id| format!("+{id}"));
        let words: Vec<_> = old_words.chain(new.iter().map(|id| format!("-{id}"))).collect();
        // Vouching is for later clients: this one goes on without.
        if let Ok(knows) = knows(link, &words).await {
            self.group().on_told(self.now(), member.id, &run_id, knows);
        }
    }
}

async fn knows(link: &Link, words: &[String]) -> LockResult<BTreeMap<String, Duration>> {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let run = Run { text: &INTRODUCE, keys: &[MEMBERS.to_owned()], arguments: &words };
    let reply = link.run(run).await.map_err(|error| Forbidden::or(MEMBERS_KEY, error))?;
    let Value::Array(parts) = reply else { return Ok(BTreeMap::new()) };
    let texts: Vec<_> = parts.iter().filter_map(holder_text).collect();
    let pairs = texts.chunks_exact(2).map(|pair| {
        let known_for = match pair[1].as_str() {
            "-1" => Duration::MAX,
            known_for => Duration::from_millis(known_for.parse().unwrap_or(0)),
        };
        (pair[0].clone(), known_for)
    });
    Ok(pairs.collect())
}

fn holder_text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        _ => None,
    }
}
