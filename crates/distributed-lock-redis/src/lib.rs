//! Locks on a Redis server for [`distributed-lock`](https://docs.rs/distributed-lock): one request for each
//! step, one connection for each provider, waiters served in order and told by push.
//!
//! ```no_run
//! use distributed_lock_core::prelude::*;
//! use distributed_lock_redis::RedisLockProvider;
//! use std::time::Duration;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let provider = RedisLockProvider::builder().add_server("redis://localhost:6379").build().await?;
//! let handle = provider.acquire_lock("report", Some(Duration::from_secs(5))).await?;
//! // What runs inside the guard stops if the lock is lost.
//! handle.guard(async { /* only one holder at a time gets here */ }).await?;
//! handle.release().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! - A lock is a lease, 30 s long by default, that is extended every third of it while its handle is
//!   held. A holder that dies is followed within one lease and one second. A holder that cannot extend
//!   it is told by its own clock, shortly before the server gives the lock to another.
//! - Processes that wait are served in the order in which they came, each with one place for each name;
//!   a release hands the lock to the next by itself, and tells it. A waiter that is dead is passed over at
//!   once, one that does not react after three fallback periods (a third of the lease, at least 50 ms and
//!   at most 1 s), at worst 3 s later.
//! - A message that is lost, or a holder that is another program and tells nobody, costs at most one
//!   fallback period.
//! - Fencing tokens are drawn on first use, by one request. They increase through restarts, also when the server has lost its data, unless its clock
//!   went back by more than an hour while the name was not in use.
//! - A key that others delete or overwrite, and a server that lost its data, is told at the next
//!   extension. **Until then two may hold**: on a server that evicts keys, keeps nothing on disk or fails
//!   over to a replica, let the resource compare fencing tokens. What about the server would break a
//!   promise is told once, as a `tracing` warning with its remedy, when the provider is built.
//! - `None` from a try means held, or promised to somebody who waits. What the server refuses (out of
//!   memory, read-only, no permission, loading) is [`Backend`], at once.
//!
//! # Servers
//!
//! Redis or Valkey from 6.2 on, one server or several independent ones (below). RESP3 takes one connection, RESP2 a second one for messages.
//! `rediss://` is TLS by rustls with the certificates of the system (feature `tls`, on by default); for
//! others make a [client](RedisLockProviderBuilder::client). The least that a user needs, as one line; the
//! page "Security" of the repository (`docs/security.md`) has the one for a tenant:
//!
//! ```text
//! ACL SETUSER app reset on >PASSWORD
//!     ~distributed-lock:* ~distributed-lock/1:* &distributed-lock/1:process:*
//!     +del +eval +evalsha +exists +get +hdel +hget +hgetall +hlen +hset +hsetnx +info +mget +pexpire
//!     +ping +pttl +publish +pubsub|numsub +set +subscribe +time +type +zadd +zcount +zrange +zrem
//!     +zremrangebyscore +zscore
//! ```
//!
//! # Several servers
//!
//! With more than one [`add_server`] a lock is held by whoever has it on a majority of *all* of them
//! ([`redlock`]). They must be independent: no replicas of each other, no shared disk or power supply
//! that fails for all.
//!
//! - A minority that is down, hangs or is slow changes only latency, also while the provider is built:
//!   who finds out waits once for an eighth of the lease (at least 50 ms, at most a third of the
//!   operation timeout), then nobody waits for that server until it answers again. A server that comes
//!   back gives its vote to the locks that are held, at their next extension, so that another may go.
//!   A release ends when a majority has confirmed it, the others follow in the background.
//!   Without a majority every call is [`Connection`], and a lock that is held is lost before its lease
//!   ends.
//! - A server that restarts or is replaced may have forgotten locks. It is not counted until
//!   [`restart_guard`] has passed since it was first seen, by default the expiry; with clients of
//!   different expiries, set it to the longest. A whole group that is new starts at once. **So a group
//!   that has lost the data of all its servers at the same time is a new one: until the next
//!   extension two may hold.** If that can happen, keep clients away for the longest lease, or let the
//!   resource compare fencing tokens.
//! - No lock survives a failover of a member to an asynchronous replica with certainty: what the
//!   replica had not yet received is forgotten. Members are single servers, without failover.
//! - A clock that jumps forward at a majority ends leases early; the holder is told at the next
//!   extension, and until then two may hold. One clock that jumps changes nothing. Clocks that merely run
//!   apart are allowed for by one hundredth of the lease and 2 ms.
//! - Fencing tokens are drawn when they are asked for, in one or two more requests, from a majority.
//!   They increase through all of the above, unless the clocks of a majority went back.
//! - Waiting is by push from any server and not in order; somebody wins within the operation timeout
//!   when many try at once. A semaphore has at most 65,536 permits, each a mutex of its own.
//!
//! # Keys
//!
//! This is a format: other programs can rely on it. All keys of a name have an expiry and are in one
//! cluster slot.
//!
//! | key | is |
//! |---|---|
//! | `<prefix><name>` | the mutex and write lock: a string, the owner's token (32 hexadecimal digits), then a space and its label if it has one; while readers hold, `r:` and 32 digits |
//! | `distributed-lock/1:{T}:<kind>:<hash>` | everything else |
//!
//! The mutex key is what `SET key value NX PX ms` makes and compare-and-delete ends in many languages
//! (redis-py's `Lock`, redsync, and others): with the same key they and ours exclude each other, readers
//! included. The prefix is `distributed-lock:` unless [`key_prefix`] says otherwise.
//!
//! `T` is the mutex key's own hash tag, else the whole key if it is not empty and has no `}`, else the
//! smallest decimal number of the same slot. The hash is the first 128 bits of SHA-256 of the mutex key.
//!
//! | kind | is | expires |
//! |---|---|---|
//! | `readers`, `permits` | a sorted set of holders, `<token> <lease in ms>[ <label>]`, by the end of their leases | with the last of them |
//! | `queue`, `permit-queue` | the waiters, a sorted set by their positions | 10 s after the last of them has asked |
//! | `waiters`, `permit-waiters` | a hash with an entry for each of them, and a tombstone for each attempt that was withdrawn while a request of it was on its way | the same; for tombstones 16 minutes, or one lease if that is longer |
//! | `written` | of the mutex key's owner: `<lease in ms> <token>`, and ` granted` if a script made it the owner | with the lease, at most 3 s later |
//! | `quorum-queue`, `quorum-waiters`, and the same with `quorum-permit` | as the former two, on each of several servers | the same |
//! | `permit-<number>` | a permit on several servers: a mutex | with its lease |
//! | `counter`, `permit-counter` | the last fencing token, and the token of whom it was drawn for | 1 hour after its last use |
//!
//! Each of several servers keeps the run ids of its group in `distributed-lock/1:{members}`, a hash, for
//! a year after the last change.
//!
//! Messages are published on `distributed-lock/1:process:<random>`, one channel for each provider; a
//! message is a token of an attempt, and only a hint.
//!
//! [`Backend`]: distributed_lock_core::error::LockError::Backend
//! [`Connection`]: distributed_lock_core::error::LockError::Connection
//! [`add_server`]: RedisLockProviderBuilder::add_server
//! [`key_prefix`]: RedisLockProviderBuilder::key_prefix
//! [`restart_guard`]: RedisLockProviderBuilder::restart_guard

mod any;
mod bounded;
mod builder;
mod client;
mod connect_pace;
mod damage;
mod driver;
mod extend;
mod failure;
mod free;
mod grant;
mod greeting;
mod health;
mod holder;
mod key;
mod link;
mod mailbox;
mod options;
mod place;
mod protocol;
pub mod redlock;
mod reply_meter;
mod script;
pub mod semaphore;
mod server_url;
mod several;
mod slot;
mod types;

pub use any::RedisDriver;
pub use builder::RedisLockProviderBuilder;
pub use damage::DamagedKey;
pub use failure::ServerError;
pub use protocol::RedisProtocol;
/// The client library, for [`RedisLockProviderBuilder::client`].
pub use redis;
pub use types::{
    RedisDistributedLock, RedisDistributedReaderWriterLock, RedisDistributedSemaphore,
    RedisLockHandle, RedisLockProvider, RedisReadLockHandle, RedisSemaphoreHandle,
    RedisWriteLockHandle,
};
