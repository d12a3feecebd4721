//! What most code that takes locks needs: the traits, and the error.

pub use crate::error::{LockError, LockResult};
pub use crate::traits::{
    DistributedLock, DistributedReaderWriterLock, DistributedSemaphore, LockHandle, LockProvider,
    LockProviderExt, Provider, ProviderExt, ReaderWriterLockProvider, SemaphoreProvider,
};
