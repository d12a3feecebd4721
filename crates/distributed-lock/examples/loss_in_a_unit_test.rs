//! How to test, without any server, that your code stops when it loses its lock.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use distributed_lock::*;

/// The code under test: generic, so that production gives it another provider.
async fn publish(provider: &impl LockProvider, work: impl Future<Output = ()>) -> LockResult<()> {
    let handle = provider.acquire_lock("publish", None).await?;
    handle.guard(work).await?;
    handle.release().await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let provider = MemoryLockProvider::new();
    publish(&provider, async {}).await?;

    let lost = publish(&provider, async {
        provider.store().lose("publish");
        tokio::task::yield_now().await;
        unreachable!("the work stops where it waits");
    });
    match lost.await {
        Err(LockError::LockLost(reason)) => println!("stopped: {reason}"),
        other => panic!("expected a loss, got {other:?}"),
    }
    Ok(())
}
