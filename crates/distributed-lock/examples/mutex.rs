//! Two tasks that share a counter file, one at a time.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::Path;

use distributed_lock::*;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let provider = FileLockProvider::builder().build(directory.path().join("locks"))?;
    let counter = directory.path().join("counter");
    std::fs::write(&counter, "0")?;

    let tasks = (0..2).map(|_| tokio::spawn(count_to_ten(provider.clone(), counter.clone())));
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    println!("two tasks counted to {}", std::fs::read_to_string(&counter)?);
    assert_eq!(std::fs::read_to_string(&counter)?, "20");
    Ok(())
}

async fn count_to_ten(
    provider: FileLockProvider,
    counter: impl AsRef<Path>,
) -> Result<(), LockError> {
    for _ in 0..10 {
        let handle = provider.acquire_lock("counter", None).await?;
        // What runs inside the guard stops if the lock is lost.
        handle.guard(increment(counter.as_ref())).await?.map_err(LockError::backend)?;
        handle.release().await?;
    }
    Ok(())
}

async fn increment(counter: &Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let count: u32 = std::fs::read_to_string(counter)?.parse()?;
    std::fs::write(counter, (count + 1).to_string())?;
    Ok(())
}
