//! `acquire_all` where names differ and locks do not.

use std::time::Duration;

use distributed_lock_core::Guarantees;
use distributed_lock_core::memory::{
    MemoryLock, MemoryLockProvider, MemoryReaderWriterLock, MemorySemaphore,
};
use distributed_lock_core::prelude::*;

/// Takes names that differ only in case for the same, as PostgreSQL does with explicit keys.
#[derive(Clone, Default)]
struct CaseBlind(MemoryLockProvider);

impl LockProvider for CaseBlind {
    type Lock = MemoryLock;

    fn create_lock(&self, name: &str) -> MemoryLock {
        self.0.create_lock(&name.to_lowercase())
    }
}

impl ReaderWriterLockProvider for CaseBlind {
    type Lock = MemoryReaderWriterLock;

    fn create_reader_writer_lock(&self, name: &str) -> MemoryReaderWriterLock {
        self.0.create_reader_writer_lock(&name.to_lowercase())
    }
}

impl SemaphoreProvider for CaseBlind {
    type Semaphore = MemorySemaphore;

    fn create_semaphore(&self, name: &str, max_count: u32) -> MemorySemaphore {
        self.0.create_semaphore(&name.to_lowercase(), max_count)
    }
}

impl Provider for CaseBlind {
    fn guarantees(&self) -> Guarantees {
        self.0.guarantees()
    }

    async fn shutdown(&self) -> Vec<(String, LockError)> {
        self.0.shutdown().await
    }

    fn native_key(&self, name: &str) -> LockResult<String> {
        self.0.native_key(&name.to_lowercase())
    }
}

#[tokio::test]
async fn two_spellings_of_one_key_do_not_block_themselves() {
    let provider = CaseBlind::default();
    let held = provider.acquire_all(["B", "a", "b", "A"], Some(Duration::ZERO)).await.unwrap();
    let names: Vec<&str> = held.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(provider.0.store().holds(), 2);
    held.release().await.unwrap();
    assert_eq!(provider.0.store().holds(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opposite_orders_a_thousand_times_never_deadlock() {
    let provider = MemoryLockProvider::new();
    let names = ["one", "two", "three", "four", "five"];
    let reversed = names.iter().rev().copied().collect::<Vec<_>>();
    let tasks = [names.to_vec(), reversed].map(|names| {
        let provider = provider.clone();
        tokio::spawn(async move {
            for _ in 0..1_000 {
                let held = provider.acquire_all(&names, None).await?;
                held.guard(tokio::task::yield_now()).await?;
                held.release().await?;
            }
            Ok::<_, LockError>(())
        })
    });
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(provider.store().holds(), 0);
}

#[tokio::test]
async fn no_names_are_no_locks() {
    let provider = MemoryLockProvider::new();
    let held = provider.acquire_all([""; 0], None).await.unwrap();
    assert!(held.is_empty() && !held.is_lost());
    assert_eq!(held.guard(async { 7 }).await.unwrap(), 7);
    held.release().await.unwrap();
}

#[tokio::test]
async fn a_name_that_cannot_be_used_is_told_before_anything_is_acquired() {
    let provider = MemoryLockProvider::new();
    let refused = provider.acquire_all(["good".into(), "a".repeat(1025)], None);
    assert_eq!(provider.store().holds(), 0);
    assert!(matches!(refused.await, Err(LockError::InvalidName(_))));
}

/// To look at each that is held for each that is acquired would make ten times as many a hundred times
/// as slow.
#[tokio::test]
async fn many_names_cost_no_more_each_than_few() {
    let provider = MemoryLockProvider::builder().lease(Duration::from_secs(600)).build();
    let each = async |count: u32| {
        let mut best = Duration::MAX;
        for _ in 0..3 {
            let names: Vec<String> = (0..count).map(|number| format!("name {number}")).collect();
            let began = tokio::time::Instant::now();
            let held = provider.acquire_all(&names, None).await.unwrap();
            best = best.min(began.elapsed() / count);
            assert_eq!(held.len(), names.len());
            held.release().await.unwrap();
        }
        best
    };
    let (few, many) = (each(500).await, each(10_000).await);
    assert!(many < few * 4, "{few:?} each for 500, {many:?} each for 10,000");
}

/// One that is lost while another is waited for ends the wait, and says why.
#[tokio::test]
async fn a_loss_ends_the_wait_for_the_others() {
    let provider = MemoryLockProvider::new();
    let other = provider.acquire_lock("b", None).await.unwrap();
    let all = provider.acquire_all(["a", "b"], None);
    let lose = async {
        tokio::task::yield_now().await;
        provider.store().lose("a");
    };
    let (result, ()) = tokio::join!(all, lose);
    let Err(LockError::LockLost(reason)) = result else { panic!("{result:?}") };
    let direct = provider.acquire_lock("c", None).await.unwrap();
    provider.store().lose("c");
    assert_eq!(reason, format!("that of \"a\": {}", direct.loss_reason().unwrap()));
    other.release().await.unwrap();
}
