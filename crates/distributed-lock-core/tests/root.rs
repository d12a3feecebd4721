//! What is at the root of the crate, as users of a backend's crate alone import it.

use std::time::Duration;

use distributed_lock_core::memory::MemoryLockProvider;
use distributed_lock_core::{
    DistributedLock, DistributedReaderWriterLock, DistributedSemaphore, LockError, LockHandle,
    LockProvider, LockProviderExt, LockResult, Provider, ProviderExt, ReaderWriterLockProvider,
    SemaphoreProvider,
};

/// Each trait is used by one of its methods.
async fn every_trait<P: Provider>(provider: &P) -> LockResult<()> {
    let timeout = Some(Duration::from_secs(5));
    let name = provider.native_key("a")?;
    LockProvider::create_lock(provider, &name).acquire(timeout).await?.release().await?;
    LockProviderExt::acquire_lock(provider, &name, timeout).await?.release().await?;
    ProviderExt::with_lock(provider, &name, timeout, async |_| ()).await?;
    let lock = ReaderWriterLockProvider::create_reader_writer_lock(provider, &name);
    DistributedReaderWriterLock::acquire_read(&lock, timeout).await?.release().await?;
    let semaphore = SemaphoreProvider::create_semaphore(provider, &name, 1);
    let permit = DistributedSemaphore::acquire(&semaphore, timeout).await?;
    LockHandle::release(permit).await
}

#[tokio::test]
async fn all_traits_and_the_error_are_at_the_root() {
    every_trait(&MemoryLockProvider::new()).await.unwrap();
    let lock = MemoryLockProvider::new().create_lock(&"x".repeat(2000));
    let error: LockError = DistributedLock::try_acquire(&lock).await.unwrap_err();
    assert!(matches!(error, LockError::InvalidName(_)));
}
