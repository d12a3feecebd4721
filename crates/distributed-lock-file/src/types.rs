//! The public types.

use crate::driver::FileDriver;

distributed_lock_core::backend_types! {
    driver FileDriver;
    /// Locks on files in one directory; see the [crate's documentation](crate).
    provider FileLockProvider;
    /// A mutex on a file.
    lock FileDistributedLock;
    /// A held [`FileDistributedLock`].
    handle FileLockHandle;
    /// A reader-writer lock on files.
    reader_writer_lock FileDistributedReaderWriterLock;
    /// The read side of a held [`FileDistributedReaderWriterLock`].
    read_handle FileReadLockHandle;
    /// The write side of a held [`FileDistributedReaderWriterLock`].
    write_handle FileWriteLockHandle;
    /// A semaphore on files.
    semaphore FileDistributedSemaphore;
    /// A held permit of a [`FileDistributedSemaphore`].
    semaphore_handle FileSemaphoreHandle;
}
