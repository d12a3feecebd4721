//! The tables of the telemetry's documentation, held against what locks tell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use distributed_lock_core::clock::ManualClock;
use distributed_lock_core::memory::{Behaviour, MemoryLockProvider, MemoryStore};
use distributed_lock_core::prelude::*;
use distributed_lock_core::telemetry;
use distributed_lock_testkit::listening::{Meter, Traces};

/// The rows of the module's tables, each cell split into its words in code quotes.
fn documented(first: &str) -> Vec<Vec<Vec<String>>> {
    let text = include_str!("../../distributed-lock-core/src/telemetry.rs");
    let lines = text.lines().filter_map(|line| line.strip_prefix("//! "));
    let table = lines.skip_while(|line| !line.starts_with(&format!("| {first} |"))).skip(2);
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let cells = |line: &str| {
        let line = line.trim_start_matches("| ").trim_end_matches(" |");
        line.split('|')
            .map(
                |cell| if cell.contains('`') { quoted(cell) } else { vec![cell.trim().to_owned()] },
            )
            .collect()
    };
    table.take_while(|line| line.starts_with("| ")).map(cells).collect()
}

/// Makes everything happen that is told.
fn everything_happens() -> LockResult<(Meter, Traces)> {
    let (meter, traces) = (Meter::default(), Traces::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(LockError::backend)?;
    tracing::subscriber::with_default(traces.clone(), || {
        metrics::with_local_recorder(&meter, || {
            telemetry::describe();
            runtime.block_on(acquires_of_every_outcome())?;
            runtime.block_on(renewals_of_every_outcome())
        })
    })?;
    Ok((meter, traces))
}

async fn acquires_of_every_outcome() -> LockResult<()> {
    let provider = MemoryLockProvider::new();
    let held = provider.acquire_lock("x", None).await?;
    assert!(provider.try_acquire_lock("x").await?.is_none());
    let late = provider.acquire_lock("x", Some(Duration::from_millis(1))).await;
    assert!(matches!(late, Err(LockError::Timeout(_))));
    held.release().await?;
    provider.create_reader_writer_lock("x").acquire_read(None).await?.release().await?;
    provider.create_semaphore("x", 1).acquire(None).await?.release().await?;
    let lost = provider.acquire_lock("x", None).await?;
    provider.store().lose("x");
    assert!(lost.release().await.is_err());
    provider.store().behave(Behaviour::Refuse);
    assert!(provider.try_acquire_lock("x").await.is_err());
    provider.store().behave(Behaviour::Prompt);
    provider.shutdown().await;
    assert!(matches!(provider.try_acquire_lock("x").await, Err(LockError::Cancelled)));
    Ok(())
}

async fn renewals_of_every_outcome() -> LockResult<()> {
    let (store, lease) = (MemoryStore::new(), Duration::from_secs(1));
    let provider = MemoryLockProvider::builder().store(store.clone()).lease(lease).build();
    let held = provider.acquire_lock("x", None).await?;
    tokio::time::sleep(lease / 2).await;
    store.behave(Behaviour::Refuse);
    tokio::time::sleep(lease / 3).await;
    store.behave(Behaviour::Prompt);
    assert!(!held.is_lost());
    held.release().await?;
    // For a client whose clock is far ahead that lease has ended: the store gives the lock away, and
    // refuses to extend it.
    let clock = ManualClock::default();
    clock.advance(Duration::from_secs(1_000_000_000));
    let ahead = MemoryLockProvider::builder().store(store).lease(lease).clock(clock).build();
    let lost = provider.acquire_lock("x", None).await?;
    let _next = ahead.acquire_lock("x", None).await?;
    lost.lost_token().cancelled().await;
    Ok(())
}

#[test]
fn metrics_are_what_the_table_says() {
    let (meter, _) = everything_happens().unwrap();
    let mut told: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for measured in meter.measured() {
        let known = ["backend", "mode", "outcome"];
        assert!(measured.labels.keys().all(|label| known.contains(&&**label)), "{measured:?}");
        assert_eq!(measured.labels["backend"], "memory");
        let outcomes = told.entry((measured.name, measured.kind.to_owned())).or_default();
        outcomes.extend(measured.labels.get("outcome").cloned());
    }
    let mut said = BTreeMap::new();
    for row in documented("metric") {
        let outcomes = row[2].iter().filter(|word| !word.is_empty() && *word != "outcome");
        said.insert((row[0][0].clone(), row[1][0].clone()), outcomes.cloned().collect());
    }
    assert_eq!(told, said);
    let described: BTreeSet<String> = meter.described().into_iter().collect();
    assert_eq!(described, said.into_keys().map(|(name, _)| name).collect());
}

#[test]
fn spans_declare_and_record_what_the_table_says() {
    let (_, traces) = everything_happens().unwrap();
    let mut told = BTreeMap::new();
    for span in traces.spans() {
        let recorded: BTreeSet<&str> = span.recorded.keys().copied().collect();
        let declared: BTreeSet<&str> = span.declared.iter().copied().collect();
        assert_eq!(recorded, declared, "{}", span.name);
        let level = span.level.to_string().to_lowercase();
        let fields: Vec<String> = span.declared.iter().map(|field| (*field).to_owned()).collect();
        told.insert((span.name.to_owned(), level), fields);
    }
    let said = documented("span")
        .into_iter()
        .map(|row| ((row[0][0].clone(), row[1][0].clone()), row[2].clone()));
    assert_eq!(told, said.collect());
    let losses: Vec<_> =
        traces.events().into_iter().filter(|e| e.level == tracing::Level::WARN).collect();
    assert!(!losses.is_empty());
    for loss in losses {
        let fields: Vec<&str> = loss.recorded.keys().copied().collect();
        assert_eq!(fields, ["backend", "lock", "message", "mode", "reason"]);
    }
}
