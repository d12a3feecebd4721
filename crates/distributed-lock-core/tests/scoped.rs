//! `with_lock` where types and threads make it hard.

use std::rc::Rc;

use distributed_lock_core::DynLockProvider;
use distributed_lock_core::memory::MemoryLockProvider;
use distributed_lock_core::prelude::*;

/// Counts to two in a task of its own, with a captured `&mut`; that it compiles is half of the test.
async fn counted<P: Provider>(provider: P) -> LockResult<u32> {
    let task = tokio::spawn(async move {
        let (mut count, name) = (1, String::from("counted"));
        let adds = &mut count;
        let seen = provider.with_lock(&name, None, async |handle| {
            handle.fencing_token().await?;
            tokio::task::yield_now().await;
            *adds += 1;
            Ok::<_, LockError>(*adds)
        });
        assert_eq!(seen.await??, 2);
        Ok(count)
    });
    task.await.map_err(LockError::backend)?
}

#[tokio::test]
async fn a_generic_provider_is_used_in_a_task() {
    assert_eq!(counted(MemoryLockProvider::new()).await.unwrap(), 2);
    assert_eq!(counted(DynLockProvider::new(MemoryLockProvider::new())).await.unwrap(), 2);
}

#[tokio::test]
async fn a_concrete_provider_is_used_in_a_task() {
    let provider = MemoryLockProvider::new();
    let task = tokio::spawn(async move {
        let mut count = 1;
        let work = async |_: &_| {
            tokio::task::yield_now().await;
            count += 1;
        };
        provider.with_lock("x", None, work).await?;
        Ok::<_, LockError>(count)
    });
    assert_eq!(task.await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn work_that_cannot_be_sent_needs_no_task() {
    let provider = MemoryLockProvider::new();
    let shared = Rc::new(7);
    let seen = provider.with_lock("x", None, async |_| {
        tokio::task::yield_now().await;
        *shared
    });
    assert_eq!(seen.await.unwrap(), 7);
}

/// `guard`, `with_lock` and `release` tell the same reason of a loss.
#[tokio::test]
async fn the_reason_of_a_loss_is_told_everywhere() {
    let provider = MemoryLockProvider::new();
    let lost = provider.acquire_lock("x", None).await.unwrap();
    assert_eq!(lost.loss_reason(), None);
    provider.store().lose("x");
    let reason = lost.loss_reason().unwrap();
    let guarded = lost.guard(async {}).await;
    let scoped = provider.with_lock("x", None, async |_| {
        provider.store().lose("x");
        std::future::pending::<()>().await
    });
    for result in [guarded, scoped.await, lost.release().await] {
        assert!(matches!(&result, Err(LockError::LockLost(why)) if *why == reason), "{result:?}");
    }
    let erased = DynLockProvider::new(provider.clone());
    let lost = erased.acquire_lock("x", None).await.unwrap();
    provider.store().lose("x");
    assert_eq!(lost.loss_reason(), Some(reason));
}
