//! The public names, and code as users write it.

#![cfg(feature = "file")]

use std::time::Duration;

use distributed_lock::*;

/// Every name that belongs to core or files resolves, and nothing is ambiguous beside a glob import.
#[expect(unused_imports, reason = "that they resolve is the test")]
mod names {
    use distributed_lock::{
        CancellationToken, DistributedLock, DistributedReaderWriterLock, DistributedSemaphore,
        DynHandle, DynLock, DynLockProvider, DynReaderWriterLock, DynSemaphore, FencingToken,
        FileDistributedLock, FileDistributedReaderWriterLock, FileDistributedSemaphore,
        FileLockHandle, FileLockProvider, FileLockProviderBuilder, FileReadLockHandle,
        FileSemaphoreHandle, FileWriteLockHandle, Guarantees, HeldLocks, LockError, LockHandle,
        LockProvider, LockProviderExt, LockResult, Provider, ProviderExt, ReaderWriterLockProvider,
        SemaphoreProvider, blocking, connect, error, name, prelude, telemetry, timeout, traits,
    };
}

/// The same for the servers' names.
#[cfg(all(feature = "postgres", feature = "redis"))]
#[expect(unused_imports, reason = "that they resolve is the test")]
mod names_of_servers {
    use distributed_lock::{
        PostgresAdvisoryLockKey, PostgresDistributedLock, PostgresDistributedReaderWriterLock,
        PostgresDistributedSemaphore, PostgresLockHandle, PostgresLockProvider,
        PostgresLockProviderBuilder, PostgresReadLockHandle, PostgresSemaphoreHandle,
        PostgresWriteLockHandle, RedisDistributedLock, RedisDistributedReaderWriterLock,
        RedisDistributedSemaphore, RedisLockHandle, RedisLockProvider, RedisLockProviderBuilder,
        RedisReadLockHandle, RedisSemaphoreHandle, RedisWriteLockHandle, connection, key,
        semaphore,
    };
}

#[tokio::test]
async fn a_lock_is_acquired_and_released() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let provider = FileLockProvider::builder().build(directory.path())?;
    let lock = provider.create_lock("my-resource");
    let handle = lock.acquire(Some(Duration::from_secs(5))).await?;
    assert!(lock.try_acquire().await?.is_none());
    handle.release().await?;
    assert!(lock.try_acquire().await?.is_some());
    Ok(())
}

/// Generic code over any lock, as the traits are meant to be used.
async fn protected(lock: &impl DistributedLock) -> LockResult<u32> {
    let handle = lock.acquire(Some(Duration::from_secs(5))).await?;
    let result = handle.guard(async { 42 }).await?;
    handle.release().await?;
    Ok(result)
}

#[tokio::test]
async fn generic_code_takes_concrete_and_erased_locks() -> LockResult<()> {
    let directory = tempfile::tempdir().map_err(LockError::backend)?;
    let concrete = FileLockProvider::builder().build(directory.path())?;
    assert_eq!(protected(&concrete.create_lock("x")).await?, 42);
    let erased = DynLockProvider::new(concrete);
    assert_eq!(protected(&erased.create_lock("x")).await?, 42);
    Ok(())
}

#[tokio::test]
async fn futures_can_be_spawned() -> Result<(), Box<dyn std::error::Error>> {
    let provider = connect("memory://spawned").await?;
    let worked = tokio::spawn(async move {
        let handle = provider.acquire_lock("x", None).await?;
        handle.guard(tokio::task::yield_now()).await?;
        handle.fencing_token().await?;
        handle.release().await
    });
    worked.await??;
    Ok(())
}

async fn refusal(url: &str) -> String {
    match connect(url).await {
        Err(LockError::Config(reason)) => reason,
        other => panic!("{url}: {other:?}"),
    }
}

#[tokio::test]
async fn urls_make_providers() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().display();
    let by_url = connect(&format!("file://{path}?label=a%20b")).await?;
    let by_builder = FileLockProvider::builder().build(directory.path())?;
    let held = by_url.acquire_lock("x", None).await?;
    assert!(by_builder.try_acquire_lock("x").await?.is_none());
    let holder = by_builder.holder("x", Mode::Exclusive).await?;
    assert_eq!(holder.and_then(|holder| holder.label).as_deref(), Some("a b"));
    held.release().await?;

    let (one, other) = (connect("memory://a").await?, connect("memory://a").await?);
    let held = one.acquire_lock("x", None).await?;
    assert!(other.try_acquire_lock("x").await?.is_none());
    assert!(connect("memory://b").await?.try_acquire_lock("x").await?.is_some());
    held.release().await?;
    Ok(())
}

#[tokio::test]
async fn bad_urls_are_explained_and_secrets_not_repeated() {
    assert!(refusal("not a url").await.contains("file:///"));
    assert!(refusal("file://relative/dir").await.contains("three slashes"));
    assert!(refusal("file:///tmp/x?lable=a").await.contains("known here are mode, label"));
    assert!(refusal("memory://a?lease=soon").await.contains("30s"));
    let unknown = refusal("mysql://user:secret@host/db").await;
    assert!(unknown.contains("mysql") && unknown.contains("file:///directory"), "{unknown}");
    assert!(!unknown.contains("secret"), "{unknown}");
}
