//! Keys that others delete, overwrite, flush and evict.

use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_testkit::servers::RedisServer;

use crate::{MS, SECOND, held, leased, order, provider, timed, told_of_loss};

/// Leases of 3 s are extended every second; what tests allow on top.
const CADENCE_AND_SLACK: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_21_what_others_do_to_the_key_is_told_within_a_cadence() {
    let server = RedisServer::start(&[]);
    let here = leased(&server.url(), 3 * SECOND).await;
    let key = here.native_key("robbed").unwrap();
    let deeds: [&[&str]; 4] = [
        &["DEL", &key],
        &["SET", &key, "somebody else", "PX", "60000"],
        &["FLUSHALL"],
        &["CONFIG", "SET", "maxmemory", "1", "maxmemory-policy", "allkeys-random"],
    ];
    for deed in deeds {
        let handle = held(&here, "robbed").await;
        let reader = here.create_reader_writer_lock("read").acquire_read(None).await.unwrap();
        let permit = here.create_semaphore("permits", 2).acquire(None).await.unwrap();
        order(&server, deed);
        if deed[0] == "CONFIG" {
            // Evicts before it is refused.
            order(&server, &["SET", "anything", "x", "PX", "1000"]);
            order(&server, &["CONFIG", "SET", "maxmemory", "0"]);
        }
        told_of_loss(&handle, CADENCE_AND_SLACK).await;
        assert!(matches!(handle.release().await, Err(LockError::LockLost(_))));
        if matches!(deed[0], "FLUSHALL" | "CONFIG") {
            told_of_loss(&reader, CADENCE_AND_SLACK).await;
            told_of_loss(&permit, CADENCE_AND_SLACK).await;
        }
        if deed[0] == "SET" {
            assert_eq!(server.cli(&["GET", &key]), "somebody else");
            assert!(here.try_acquire_lock("robbed").await.unwrap().is_none());
            order(&server, &["DEL", &key]);
        }
    }
}

/// What another program does to one lock's keys strikes no other lock of the same batch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_of_another_type_loses_one_lock() {
    const LOCKS: usize = 450;
    let server = RedisServer::start(&[]);
    let here = leased(&server.url(), 3 * SECOND).await;
    let (mut mutexes, mut readers, mut permits) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..LOCKS / 3 {
        let name = format!("batch {number}");
        mutexes.push(held(&here, &format!("{name} mutex")).await);
        readers.push(here.create_reader_writer_lock(&name).acquire_read(None).await.unwrap());
        permits.push(here.create_semaphore(&name, 2).acquire(None).await.unwrap());
    }
    let names = ["batch 3 mutex", "batch 7"].map(|name| here.native_key(name).unwrap());
    let entries = server.cli(&["KEYS", "*batch 7}:readers:*"]);
    let permit = server.cli(&["KEYS", "*batch 11}:permits:*"]);
    let deeds: [&str; 3] = [&names[0], &entries, &permit];
    for key in deeds {
        order(&server, &["DEL", key]);
        order(&server, &["RPUSH", key, "x"]);
    }
    told_of_loss(&mutexes[3], CADENCE_AND_SLACK).await;
    told_of_loss(&readers[7], CADENCE_AND_SLACK).await;
    told_of_loss(&permits[11], CADENCE_AND_SLACK).await;
    // For longer than a lease.
    tokio::time::sleep(4 * SECOND).await;
    let lost = mutexes.iter().filter(|held| held.is_lost()).count()
        + readers.iter().filter(|held| held.is_lost()).count()
        + permits.iter().filter(|held| held.is_lost()).count();
    assert_eq!(lost, 3);
}

/// Readers lose their lock with its marker, even when other readers set a new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_whose_marker_was_deleted_are_told() {
    let server = RedisServer::start(&[]);
    let (here, there) = (leased(&server.url(), 3 * SECOND).await, provider(&server.url()).await);
    let key = here.native_key("read").unwrap();
    let reader = here.create_reader_writer_lock("read").acquire_read(None).await.unwrap();
    assert!(server.cli(&["GET", &key]).starts_with("r:"));
    order(&server, &["DEL", &key]);
    let writer = held(&there, "read").await;
    writer.release().await.unwrap();
    let next = there.create_reader_writer_lock("read").acquire_read(None).await.unwrap();
    told_of_loss(&reader, CADENCE_AND_SLACK).await;
    assert!(matches!(reader.release().await, Err(LockError::LockLost(_))));
    assert!(!next.is_lost());
    next.release().await.unwrap();
    assert_eq!(server.cli(&["EXISTS", &key]), "0");
}

/// A plain `SET NX PX` excludes us and is excluded, readers included, and is not touched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_set_nx_locks_and_ours_exclude_each_other() {
    let server = RedisServer::start(&[]);
    let here = leased(&server.url(), 3 * SECOND).await;
    let key = here.native_key("shared").unwrap();
    let set = || server.cli(&["SET", &key, "theirs", "NX", "PX", "700"]);
    let readers = here.create_reader_writer_lock("shared");
    assert_eq!(set(), "OK");
    assert!(here.try_acquire_lock("shared").await.unwrap().is_none());
    assert!(readers.try_acquire_read().await.unwrap().is_none());
    // It does not publish; it is noticed within the fallback period.
    let writer = here.acquire_lock("shared", Some(700 * MS + SECOND + 500 * MS)).await.unwrap();
    assert_ne!(set(), "OK", "beside a writer");
    writer.release().await.unwrap();
    let reader = readers.try_acquire_read().await.unwrap().expect("free");
    assert_ne!(set(), "OK", "beside a reader");
    reader.release().await.unwrap();
    assert_eq!(set(), "OK");
}

/// The value is the owner's token, a space and the label.
#[tokio::test]
async fn the_value_is_as_documented() {
    let server = RedisServer::start(&[]);
    let builder = distributed_lock_redis::RedisLockProvider::builder().add_server(server.url());
    let here = builder.owner_label("nightly job").key_prefix("").build().await.unwrap();
    let handle = held(&here, "name").await;
    let value = server.cli(&["GET", "name"]);
    let (token, label) = value.split_once(' ').unwrap();
    assert!(
        token.len() == 32
            && token.chars().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase())
    );
    assert_eq!(label, "nightly job");
    let holder =
        here.holder("name", distributed_lock_core::Mode::Exclusive).await.unwrap().unwrap();
    assert_eq!(holder.to_string(), "nightly job");
    handle.release().await.unwrap();
    let reader = here.create_reader_writer_lock("name").acquire_read(None).await.unwrap();
    let holder = here.holder("name", distributed_lock_core::Mode::Shared).await.unwrap().unwrap();
    assert_eq!(holder.to_string(), "nightly job");
    reader.release().await.unwrap();
}

/// A holder that just ends tells nobody: who is first in the queue looks when its lease runs out, not
/// at its next tick, which would be half a second later here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_in_the_queue_looks_when_the_hold_runs_out() {
    let server = RedisServer::start(&[]);
    let here = leased(&server.url(), 30 * SECOND).await;
    let lease = 1500 * MS;
    let mut soonest = Duration::MAX;
    for _ in 0..3 {
        let key = here.native_key("runs out").unwrap();
        order(&server, &["SET", &key, "somebody", "NX", "PX", &lease.as_millis().to_string()]);
        let (handle, took) = timed(here.acquire_lock("runs out", None)).await;
        handle.unwrap().release().await.unwrap();
        soonest = soonest.min(took);
    }
    assert!(soonest < lease + 300 * MS, "{soonest:?}");
}
