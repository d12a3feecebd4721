//! The public types.

use std::sync::Arc;

use crate::connection::Sessions;
use crate::driver::PostgresDriver;

distributed_lock_core::backend_types! {
    driver PostgresDriver;
    /// Advisory locks of one PostgreSQL database; see the [crate's documentation](crate).
    provider PostgresLockProvider;
    /// A mutex on PostgreSQL.
    lock PostgresDistributedLock;
    /// A held [`PostgresDistributedLock`].
    handle PostgresLockHandle;
    /// A reader-writer lock on PostgreSQL.
    reader_writer_lock PostgresDistributedReaderWriterLock;
    /// The read side of a held [`PostgresDistributedReaderWriterLock`].
    read_handle PostgresReadLockHandle;
    /// The write side of a held [`PostgresDistributedReaderWriterLock`].
    write_handle PostgresWriteLockHandle;
    /// A semaphore on PostgreSQL.
    semaphore PostgresDistributedSemaphore;
    /// A held permit of a [`PostgresDistributedSemaphore`].
    semaphore_handle PostgresSemaphoreHandle;
}

impl PostgresLockProvider {
    pub(crate) fn sessions(&self) -> &Arc<Sessions> {
        self.0.driver().sessions()
    }
}
