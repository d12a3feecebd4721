//! The key under which a server keeps the run ids of its group, damaged: no server that may have forgotten
//! locks is counted because of it, and no group is unusable.

use distributed_lock_core::prelude::*;
use distributed_lock_redis::RedisLockHandle;
use tokio::time::{Instant, sleep};

use crate::group::Group;
use crate::{MS, SECOND, held, order};

const MEMBERS: &str = "distributed-lock/1:{members}";

/// No time of the server at which a run id can have been noted.
const NO_TIMES: [&str; 10] =
    ["", "x", "inf", "nan", "-nan", "-5", "0", "1e300", "9999999999999", "99999999999999999999"];

const OTHER_TYPES: [&[&str]; 5] = [
    &["RPUSH", MEMBERS, "x"],
    &["SET", MEMBERS, "x"],
    &["ZADD", MEMBERS, "1", "x"],
    &["SADD", MEMBERS, "x"],
    &["XADD", MEMBERS, "*", "x", "y"],
];

/// By a provider that has not seen the group before; a server that does not count yet is waited for.
async fn held_by_a_new_provider(group: &Group, what: &str) -> RedisLockHandle {
    let began = Instant::now();
    let builder = group.builder().expiry(SECOND).restart_guard(SECOND);
    let here = builder.build().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    loop {
        match here.try_acquire_lock("members").await {
            Ok(handle) => return handle.unwrap_or_else(|| panic!("{what}: held")),
            Err(error) => {
                let is_not_counted = format!("{error:?}").contains("NotCounted");
                assert!(is_not_counted && began.elapsed() < 10 * SECOND, "{what}: {error:?}");
            }
        }
        sleep(20 * MS).await;
    }
}

async fn is_repaired(group: &Group, what: &str) {
    let began = Instant::now();
    let is_sound = |server: &distributed_lock_testkit::servers::RedisServer| {
        let values = server.cli(&["HVALS", MEMBERS]);
        let all_known = values.lines().filter(|value| *value == "-1").count() >= 3;
        all_known && server.cli(&["PTTL", MEMBERS]) != "-1"
    };
    while !group.0.iter().all(is_sound) {
        assert!(began.elapsed() < 10 * SECOND, "{what}: {}", group.0[0].cli(&["HGETALL", MEMBERS]));
        // A new connection tells a server what it does not know.
        held_by_a_new_provider(group, what).await.release().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_73_damaged_members_are_healed() {
    let group = Group::start(3);
    for count in [1, 3] {
        for deed in OTHER_TYPES {
            let what = format!("{deed:?} on {count}");
            for server in &group.0[..count] {
                order(server, &["DEL", MEMBERS]);
                order(server, deed);
            }
            held_by_a_new_provider(&group, &what).await.release().await.unwrap();
            is_repaired(&group, &what).await;
        }
        for value in NO_TIMES {
            let what = format!("{value:?} on {count}");
            for server in &group.0[..count] {
                for id in server.cli(&["HKEYS", MEMBERS]).lines() {
                    order(server, &["HSET", MEMBERS, id, value]);
                }
                order(server, &["PERSIST", MEMBERS]);
            }
            held_by_a_new_provider(&group, &what).await.release().await.unwrap();
            is_repaired(&group, &what).await;
        }
    }
}

/// A server comes back empty, and what the others have noted of it is damaged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_73_damaged_members_let_no_empty_server_count() {
    let group = Group::start(3);
    let before = group.leased(30 * SECOND).await;
    held(&before, "before").await.release().await.unwrap();
    let known = group.0[0].cli(&["HKEYS", MEMBERS]);
    group.0[2].restart();
    // It is noted when it is seen.
    drop(group.leased(30 * SECOND).await);
    let ids = group.0[0].cli(&["HKEYS", MEMBERS]);
    let new = ids.lines().find(|id| !known.contains(id)).expect("it was not noted");
    group.0[1].kill();
    for value in NO_TIMES {
        order(&group.0[0], &["HSET", MEMBERS, new, value]);
        let refused = group.leased(30 * SECOND).await.try_acquire_lock("empty").await.map(drop);
        assert!(matches!(refused, Err(LockError::Connection(_))), "{value:?}: {refused:?}");
    }
    for deed in OTHER_TYPES {
        order(&group.0[0], &["DEL", MEMBERS]);
        order(&group.0[0], deed);
        let refused = group.leased(30 * SECOND).await.try_acquire_lock("empty").await.map(drop);
        assert!(matches!(refused, Err(LockError::Connection(_))), "{deed:?}: {refused:?}");
    }
}
