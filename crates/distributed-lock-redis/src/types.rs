//! The public types.

use crate::driver::RedisDriver;

distributed_lock_core::backend_types! {
    driver RedisDriver;
    /// Locks on a Redis server; see the [crate's documentation](crate).
    provider RedisLockProvider;
    /// A mutex on a Redis server.
    lock RedisDistributedLock;
    /// A held [`RedisDistributedLock`].
    handle RedisLockHandle;
    /// A reader-writer lock on a Redis server.
    reader_writer_lock RedisDistributedReaderWriterLock;
    /// The read side of a held [`RedisDistributedReaderWriterLock`].
    read_handle RedisReadLockHandle;
    /// The write side of a held [`RedisDistributedReaderWriterLock`].
    write_handle RedisWriteLockHandle;
    /// A semaphore on a Redis server.
    semaphore RedisDistributedSemaphore;
    /// A held permit of a [`RedisDistributedSemaphore`].
    semaphore_handle RedisSemaphoreHandle;
}
