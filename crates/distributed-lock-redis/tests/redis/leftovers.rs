//! What is left at the server, for how long: as the keys' documentation says, and then nothing.

use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_redis::RedisLockProvider;
use distributed_lock_testkit::proxy::FaultProxy;
use distributed_lock_testkit::servers::{RedisServer, Toward};

use crate::clocks::server_with_a_clock;
use crate::queue::until_waiting;
use crate::{MS, SECOND, held, leased};

const LEASE: Duration = Duration::from_secs(2);

const TOMBSTONE: Duration = Duration::from_secs(16 * 60);

/// The kinds of keys, and how long the last of each may be there.
const STATED: [(&str, Duration); 9] = [
    ("readers", LEASE),
    ("permits", LEASE),
    ("written", Duration::from_secs(5)),
    ("queue", Duration::from_secs(10)),
    ("permit-queue", Duration::from_secs(10)),
    ("waiters", TOMBSTONE),
    ("permit-waiters", TOMBSTONE),
    ("counter", Duration::from_secs(3600)),
    ("permit-counter", Duration::from_secs(3600)),
];

/// The kind of each key, and when it ends.
fn keys(server: &RedisServer) -> Vec<(String, Duration)> {
    let all = server.cli(&["KEYS", "*"]);
    let ends = |key: &str| {
        let left: i64 = server.cli(&["PTTL", key]).parse().unwrap();
        let after_tag = key.strip_prefix("distributed-lock/1:").map(|rest| rest.split_once("}:"));
        let kind = after_tag.map_or("mutex", |parts| parts.unwrap().1.split(':').next().unwrap());
        // It may have ended since.
        (left != -2).then(|| {
            (kind.to_owned(), Duration::from_millis(u64::try_from(left).expect("no expiry")))
        })
    };
    all.lines().filter(|key| !key.is_empty()).filter_map(ends).collect()
}

fn stated(kind: &str) -> Duration {
    STATED.iter().find(|(known, _)| *known == kind).map_or(LEASE, |(_, stated)| *stated)
}

/// All three primitives, taken and given back in every way; then holders and waiters that vanish, and
/// attempts that were withdrawn while a request was on its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_ends_when_it_is_stated_and_nothing_is_left() {
    let (server, clock) = server_with_a_clock();
    let proxy = FaultProxy::start(server.address());
    let here = leased(&server.url(), LEASE).await;
    let far = server.url_by(proxy.port());
    let vanishes = leased(&far, LEASE).await;
    let builder = RedisLockProvider::builder().add_server(far).expiry(LEASE);
    let unheard = builder.operation_timeout(500 * MS).build().await.unwrap();

    use_everything(&here, &leased(&server.url(), LEASE).await).await;
    for name in ["unheard mutex", "unheard readers", "unheard permits"] {
        proxy.lose_reply_to(name.as_bytes());
        let result = match name {
            "unheard mutex" => unheard.try_acquire_lock(name).await.map(drop),
            "unheard readers" => {
                unheard.create_reader_writer_lock(name).try_acquire_read().await.map(drop)
            }
            _ => unheard.create_semaphore(name, 1).try_acquire().await.map(drop),
        };
        assert!(matches!(result, Err(LockError::Connection(_))), "{result:?}");
    }
    let blocks = held(&here, "waited for").await;
    let (process, names) = (vanishes.clone(), ["gone", "waited for"]);
    let waiter = tokio::spawn(async move { process.acquire_lock(names[1], None).await.map(drop) });
    until_waiting(&server, 1).await;
    let gone = held(&vanishes, names[0]).await;
    let reader = vanishes.create_reader_writer_lock("gone readers").acquire_read(None).await;
    let permit = vanishes.create_semaphore("gone permits", 2).acquire(None).await;
    // From here on nobody renews, releases or withdraws what that process has.
    proxy.refuse();
    proxy.reset_all();
    blocks.release().await.unwrap();

    let mut kinds = Vec::new();
    for (kind, left) in keys(&server) {
        // A clock of whole milliseconds rounds.
        assert!(left <= stated(&kind) + 2 * MS, "{kind} ends in {left:?}");
        kinds.push(kind);
    }
    for kind in
        ["mutex", "readers", "permits", "waiters", "permit-waiters", "counter", "permit-counter"]
    {
        assert!(kinds.iter().any(|seen| seen == kind), "no {kind} among {kinds:?}");
    }
    for shift in [LEASE, Duration::from_secs(10), TOMBSTONE, Duration::from_secs(3600)] {
        clock.set(shift + SECOND, Toward::Future);
        for (kind, left) in keys(&server) {
            assert!(stated(&kind) > shift, "{kind} is there {shift:?} later, for {left:?}");
        }
    }
    assert_eq!(server.cli(&["KEYS", "*"]), "");
    waiter.abort();
    drop((gone, reader, permit));
}

async fn use_everything(here: &RedisLockProvider, there: &RedisLockProvider) {
    let waits = Some(50 * MS);
    for round in 0..3 {
        let name = &format!("used {round}");
        let (readers, permits) =
            (there.create_reader_writer_lock(name), there.create_semaphore(name, 2));
        let mutex = held(here, name).await;
        let both = (permits.acquire(None).await.unwrap(), permits.acquire(None).await.unwrap());
        mutex.fencing_token().await.unwrap();
        both.0.fencing_token().await.unwrap();
        let refused = readers.acquire_read(waits).await;
        assert!(matches!(refused, Err(LockError::Timeout(_))), "{refused:?}");
        let refused = readers.acquire_write(waits).await;
        assert!(matches!(refused, Err(LockError::Timeout(_))), "{refused:?}");
        let refused = here.create_semaphore(name, 2).acquire(waits).await;
        assert!(matches!(refused, Err(LockError::Timeout(_))), "{refused:?}");
        // Handed over to one who waits.
        let next = tokio::spawn({
            let readers = there.create_reader_writer_lock(name);
            async move { readers.acquire_read(None).await.unwrap() }
        });
        tokio::task::yield_now().await;
        mutex.release().await.unwrap();
        let reader = next.await.unwrap();
        drop(both.0);
        both.1.release().await.unwrap();
        readers.acquire_read(None).await.unwrap().release().await.unwrap();
        reader.release().await.unwrap();
        drop(readers.acquire_write(None).await.unwrap());
        drop(here.create_semaphore(name, 2).acquire(None).await.unwrap());
        held(there, name).await.release().await.unwrap();
    }
}
