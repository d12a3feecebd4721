//! Two tasks that move money between the same two accounts, in opposite directions.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use distributed_lock::*;

type Accounts = Arc<Mutex<HashMap<&'static str, i64>>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let provider = connect("memory://accounts").await?;
    let accounts = Accounts::default();
    let there = tokio::spawn(transfers(provider.clone(), accounts.clone(), ["alice", "bob"]));
    let back = tokio::spawn(transfers(provider, accounts.clone(), ["bob", "alice"]));
    there.await??;
    back.await??;
    let total: i64 = accounts.lock().unwrap_or_else(PoisonError::into_inner).values().sum();
    println!("nothing was lost on the way: {total}");
    assert_eq!(total, 0);
    Ok(())
}

async fn transfers(
    provider: DynLockProvider,
    accounts: Accounts,
    [from, to]: [&'static str; 2],
) -> LockResult<()> {
    for amount in 1..=100 {
        // In whichever order they are named, they are acquired in one: nobody waits in a circle.
        let both = provider.acquire_all([from, to], None).await?;
        both.guard(async {
            add(&accounts, from, -amount);
            tokio::task::yield_now().await;
            add(&accounts, to, amount);
        })
        .await?;
        both.release().await?;
    }
    Ok(())
}

fn add(accounts: &Accounts, name: &'static str, amount: i64) {
    *accounts.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += amount;
}
