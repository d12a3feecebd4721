//! The same on several servers: the documented user passes the conformance suite there, and is refused what
//! belongs to others.

use std::sync::OnceLock;

use distributed_lock_core::error::LockResult;
use distributed_lock_core::prelude::*;
use distributed_lock_redis::{RedisLockProvider, RedisLockProviderBuilder};
use distributed_lock_testkit::servers::RedisServer;
use distributed_lock_testkit::{Backend, conformance};

use crate::group::{self, Group};
use crate::least_privileges::{PASSWORD, make_user};
use crate::{SECOND, held, is_backend};

conformance!(concrete three_servers: LeastOnEach,
    with readers_writer, with semaphore, with fencing, with leases);

/// With the documented user on each.
fn group() -> &'static Group {
    static GROUP: OnceLock<Group> = OnceLock::new();
    GROUP.get_or_init(|| {
        let servers: Vec<_> = (0..3).map(|_| RedisServer::start(&[])).collect();
        servers.iter().for_each(|server| make_user(server, 2));
        Group::of(servers)
    })
}

fn builder(group: &Group, prefix: &str) -> RedisLockProviderBuilder {
    let url = |server: &RedisServer| format!("redis://app:{PASSWORD}@{}", server.address());
    let urls: Vec<_> = group.0.iter().map(url).collect();
    group::of(&urls).key_prefix(prefix).expiry(SECOND)
}

struct LeastOnEach;

impl Backend for LeastOnEach {
    type Provider = RedisLockProvider;

    async fn connect(&self) -> RedisLockProvider {
        self.try_connect().await.unwrap()
    }

    async fn try_connect(&self) -> LockResult<RedisLockProvider> {
        builder(group(), "{app}:").build().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_another_tenant_is_refused_on_several_servers() {
    let group = group();
    let other = group.builder().key_prefix("{other}:").build().await.unwrap();
    let theirs = held(&other, "theirs").await;
    for prefix in ["{other}:", "other:", "", "distributed-lock:"] {
        let intruder = builder(group, prefix).build().await.unwrap();
        let readers = intruder.create_reader_writer_lock("read");
        let permits = intruder.create_semaphore("permits", 3);
        let refused = [
            is_backend(&intruder.try_acquire_lock("theirs").await),
            is_backend(&intruder.acquire_lock("waited for", Some(SECOND)).await),
            is_backend(&readers.try_acquire_read().await),
            is_backend(&permits.try_acquire().await),
        ];
        assert_eq!(refused, [true; 4], "{prefix:?}");
    }
    assert!(!theirs.is_lost());
    theirs.release().await.unwrap();
}

/// A user who may use the tenant's keys and not that of the group.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_the_groups_key_is_told_which_key_that_is() {
    let servers: Vec<_> = (0..3).map(|_| RedisServer::start(&[])).collect();
    servers.iter().for_each(|server| make_user(server, 1));
    let group = Group::of(servers);
    let refused = builder(&group, "{app}:").build().await.map(drop).unwrap_err();
    let text = format!("{refused:?}");
    assert!(matches!(refused, LockError::Backend(_)), "{text}");
    assert!(text.contains("distributed-lock/1:{members}"), "{text}");
}
