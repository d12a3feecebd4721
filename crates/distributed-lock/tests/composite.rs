//! Several locks at once, on files.

#![cfg(feature = "file")]

use std::time::Duration;

use distributed_lock::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opposite_orders_a_thousand_times_never_deadlock() -> Result<(), Box<dyn std::error::Error>>
{
    let directory = tempfile::tempdir()?;
    let provider = FileLockProvider::builder().build(directory.path())?;
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
        tokio::time::timeout(Duration::from_secs(60), task).await???;
    }
    let all = provider.acquire_all(names, Some(Duration::ZERO)).await?;
    all.release().await?;
    Ok(())
}
