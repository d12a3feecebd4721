//! What the server refuses is an error at once, never "held", and leaves nothing behind.

use distributed_lock_core::prelude::*;
use distributed_lock_redis::RedisLockProvider;
use distributed_lock_testkit::servers::RedisServer;

use crate::{MS, SECOND, held, is_backend, order, provider, timed};

/// Each primitive's try and wait is refused at once.
async fn all_refused(provider: &RedisLockProvider, name: &str) {
    let readers = provider.create_reader_writer_lock(name);
    let permits = provider.create_semaphore(name, 3);
    let wait = Some(5 * SECOND);
    let (refused, took) = timed(async {
        [
            is_backend(&provider.try_acquire_lock(name).await),
            is_backend(&provider.acquire_lock(name, wait).await),
            is_backend(&readers.try_acquire_read().await),
            is_backend(&readers.acquire_read(wait).await),
            is_backend(&permits.try_acquire().await),
            is_backend(&permits.acquire(wait).await),
        ]
    })
    .await;
    assert_eq!(refused, [true; 6], "mutex, reader, permit: try and wait");
    assert!(took < SECOND, "{took:?}");
}

async fn all_granted(provider: &RedisLockProvider, name: &str) {
    let wait = Some(SECOND);
    let readers = provider.create_reader_writer_lock(name);
    provider.acquire_lock(name, wait).await.unwrap().release().await.unwrap();
    readers.acquire_read(wait).await.unwrap().release().await.unwrap();
    provider.create_semaphore(name, 3).acquire(wait).await.unwrap().release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_23_out_of_memory() {
    let server = RedisServer::start(&[]);
    let (here, there) = (provider(&server.url()).await, provider(&server.url()).await);
    let mutex = held(&here, "held").await;
    let reader = here.create_reader_writer_lock("read").acquire_read(None).await.unwrap();
    let permit = here.create_semaphore("permits", 1).acquire(None).await.unwrap();
    let waiter = tokio::spawn(async move { there.acquire_lock("held", None).await });
    crate::queue::until_waiting(&server, 1).await;
    order(&server, &["CONFIG", "SET", "maxmemory", "1"]);
    all_refused(&here, "refused").await;
    assert_eq!(server.cli(&["KEYS", "*refused*"]), "");
    // Extended more than once meanwhile.
    tokio::time::sleep(1500 * MS).await;
    assert!(!mutex.is_lost() && !reader.is_lost() && !permit.is_lost());
    assert!(!waiter.is_finished(), "the refusal passes");
    mutex.release().await.unwrap();
    reader.release().await.unwrap();
    permit.release().await.unwrap();
    order(&server, &["CONFIG", "SET", "maxmemory", "0"]);
    waiter.await.unwrap().unwrap().release().await.unwrap();
    all_granted(&here, "refused").await;
}

/// A release under out-of-memory gives the lock to the next, who can take it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_23_out_of_memory_does_not_stop_a_hand_over() {
    let server = RedisServer::start(&[]);
    let here = crate::leased(&server.url(), 30 * SECOND).await;
    let there = crate::leased(&server.url(), 30 * SECOND).await;
    for mode in ["mutex", "reader", "permit"] {
        let handle = here.acquire_lock("held", None).await.unwrap();
        let permit = here.create_semaphore("held", 1).acquire(None).await.unwrap();
        let there = there.clone();
        let waiter = tokio::spawn(async move {
            let readers = there.create_reader_writer_lock("held");
            match mode {
                "mutex" => there.acquire_lock("held", None).await.unwrap().release().await,
                "reader" => readers.acquire_read(None).await.unwrap().release().await,
                _ => there.create_semaphore("held", 1).acquire(None).await.unwrap().release().await,
            }
        });
        crate::queue::until_waiting(&server, 1).await;
        order(&server, &["CONFIG", "SET", "maxmemory", "1"]);
        handle.release().await.unwrap();
        permit.release().await.unwrap();
        waiter.await.unwrap().unwrap();
        order(&server, &["CONFIG", "SET", "maxmemory", "0"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_23_a_replica() {
    let server = RedisServer::start(&[]);
    let here = provider(&server.url()).await;
    order(&server, &["REPLICAOF", "127.0.0.1", "1"]);
    all_refused(&here, "replica").await;
    order(&server, &["REPLICAOF", "NO", "ONE"]);
    all_granted(&here, "replica").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_23_missing_permissions() {
    let server = RedisServer::start(&[]);
    let user = |rules: &[&str]| {
        let set = [&["ACL", "SETUSER", "app", "reset", "on", ">secret"], rules].concat();
        assert_eq!(server.cli(&set), "OK");
    };
    let ours = ["~distributed-lock*", "&distributed-lock/1:*", "+@all"];
    user(&ours);
    let here = provider(&server.url().replace("redis://", "redis://app:secret@")).await;
    all_granted(&here, "permitted").await;
    let lacks: [(&str, &[&str]); 4] = [
        ("keys", &["~other*", "&*", "+@all"]),
        ("scripts", &["~*", "&*", "+@all", "-evalsha", "-eval"]),
        ("writing", &["~*", "&*", "+@all", "-set", "-zadd"]),
        ("reading", &["~*", "&*", "+@all", "-exists"]),
    ];
    for (what, rules) in lacks {
        println!("without {what}");
        user(rules);
        if what == "scripts" {
            // A free mutex is taken without one. Giving it back is what tells that it cannot be had.
            let taken = here.try_acquire_lock("forbidden").await.unwrap().unwrap();
            assert!(is_backend(&taken.release().await));
        }
        all_refused(&here, "permitted").await;
        user(&ours);
        tokio::time::sleep(SECOND + 500 * MS).await;
        all_granted(&here, "permitted").await;
    }
    // Without the channel, what does not wait works; who must wait is told why it cannot.
    let mute = provider(&server.url().replace("redis://", "redis://app:secret@")).await;
    user(&["~*", "resetchannels", "+@all"]);
    let held = held(&mute, "permitted").await;
    let other = provider(&server.url().replace("redis://", "redis://app:secret@")).await;
    let (waited, took) = timed(other.acquire_lock("permitted", Some(5 * SECOND))).await;
    assert!(is_backend(&waited) && took < SECOND, "{took:?}");
    held.release().await.unwrap();
}

/// Only a script that has run shows that scripts can be run. After another refusal of the first script a
/// free mutex must not be taken by plain commands, because only a script can give it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_23_a_refused_script_does_not_show_that_scripts_are_permitted() {
    let server = RedisServer::start(&[]);
    let user = |rules: &[&str]| {
        let set =
            [&["ACL", "SETUSER", "app", "reset", "on", ">secret", "~*", "&*"], rules].concat();
        assert_eq!(server.cli(&set), "OK");
    };
    user(&["+@all"]);
    let here = provider(&server.url().replace("redis://", "redis://app:secret@")).await;
    order(&server, &["CONFIG", "SET", "maxmemory", "1"]);
    let full = here.try_acquire_lock("unreleasable").await.unwrap_err();
    assert!(full.is_retryable(), "{full:?}");
    user(&["+@all", "-evalsha", "-eval"]);
    order(&server, &["CONFIG", "SET", "maxmemory", "0"]);
    assert!(is_backend(&here.try_acquire_lock("unreleasable").await));
    assert_eq!(server.cli(&["KEYS", "*unreleasable*"]), "");
    user(&["+@all"]);
    all_granted(&here, "unreleasable").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_23_a_key_of_another_type() {
    let server = RedisServer::start(&[]);
    let here = provider(&server.url()).await;
    order(&server, &["RPUSH", &here.native_key("typed").unwrap(), "x"]);
    let readers = here.create_reader_writer_lock("typed");
    assert!(is_backend(&here.try_acquire_lock("typed").await));
    assert!(is_backend(&here.acquire_lock("typed", None).await));
    assert!(is_backend(&readers.acquire_read(None).await));
    order(&server, &["DEL", &here.native_key("typed").unwrap()]);
    all_granted(&here, "typed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_23_a_server_that_loads() {
    let args = [
        "--appendonly",
        "yes",
        "--enable-debug-command",
        "yes",
        // 300 keys load for 4.5 s: a client connects to a server that is away only twice a second.
        "--key-load-delay",
        "15000",
        "--loading-process-events-interval-bytes",
        "1024",
    ];
    let server = std::sync::Arc::new(RedisServer::start(&args));
    let here = provider(&server.url()).await;
    order(&server, &["DEBUG", "POPULATE", "300"]);
    order(&server, &["BGREWRITEAOF"]);
    while server.cli(&["INFO", "persistence"]).contains("aof_rewrite_in_progress:1") {}
    server.kill();
    let restarting = std::sync::Arc::clone(&server);
    let restarted = tokio::task::spawn_blocking(move || restarting.restart());
    let mut refused = 0;
    while !restarted.is_finished() {
        match here.try_acquire_lock("loading").await {
            Err(LockError::Backend(_)) => refused += 1,
            Err(LockError::Connection(_)) => {}
            Ok(Some(handle)) => handle.release().await.unwrap(),
            other => panic!("{other:?}"),
        }
        tokio::time::sleep(5 * MS).await;
    }
    restarted.await.unwrap();
    assert!(refused > 0, "it was never seen loading");
    all_granted(&here, "loading").await;
}
