//! Locks on a Redis server for [`distributed-lock`](https://docs.rs/distributed-lock).

mod builder;
mod client;
mod driver;
mod extend;
mod failure;
mod grant;
mod health;
mod holder;
mod key;
mod link;
mod mailbox;
mod options;
mod place;
mod protocol;
mod script;
pub mod semaphore;
mod slot;
mod types;

pub use builder::RedisLockProviderBuilder;
pub use driver::RedisDriver;
pub use protocol::RedisProtocol;
/// The client library, for [`RedisLockProviderBuilder::client`].
pub use redis;
pub use types::{
    RedisDistributedLock, RedisDistributedReaderWriterLock, RedisDistributedSemaphore,
    RedisLockHandle, RedisLockProvider, RedisReadLockHandle, RedisSemaphoreHandle,
    RedisWriteLockHandle,
};
