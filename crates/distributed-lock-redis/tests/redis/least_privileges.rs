//! A user with exactly the rights that `docs/security.md` lists passes the conformance suite, and is
//! refused what belongs to others.

use std::sync::OnceLock;

use distributed_lock_core::error::LockResult;
use distributed_lock_core::prelude::*;
use distributed_lock_redis::{RedisLockProvider, RedisLockProviderBuilder, RedisProtocol};
use distributed_lock_testkit::servers::RedisServer;
use distributed_lock_testkit::{Backend, conformance};

use crate::{SECOND, held, is_backend};

conformance!(concrete one_server_resp3: Least { protocol: RedisProtocol::Resp3 },
    with readers_writer, with semaphore, with fencing, with leases);
conformance!(concrete one_server_resp2: Least { protocol: RedisProtocol::Resp2 },
    with readers_writer, with semaphore, with fencing, with leases);

const SECURITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/security.md");
pub(crate) const PASSWORD: &str = "of-the-tenant";

/// The words of the documented commands: for one server, and what several need beyond that.
fn documented() -> Vec<Vec<String>> {
    let page = std::fs::read_to_string(SECURITY).unwrap();
    let commands = page.split("```text\nACL SETUSER").skip(1).map(|command| {
        let (command, _) = command.split_once("```").unwrap();
        let words = format!("ACL SETUSER{command}").replace("PASSWORD", PASSWORD);
        words.split_whitespace().map(str::to_owned).collect()
    });
    let commands: Vec<_> = commands.collect();
    assert_eq!(commands.len(), 2);
    commands
}

/// Makes the documented user, by the first so many of the commands.
pub(crate) fn make_user(server: &RedisServer, commands: usize) {
    for command in &documented()[..commands] {
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        assert_eq!(server.cli(&command), "OK", "{command:?}");
    }
}

/// One with the documented user.
fn server() -> &'static RedisServer {
    static SERVER: OnceLock<RedisServer> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = RedisServer::start(&[]);
        make_user(&server, 1);
        server
    })
}

struct Least {
    protocol: RedisProtocol,
}

impl Least {
    fn builder(&self, prefix: &str) -> RedisLockProviderBuilder {
        let builder = RedisLockProvider::builder().protocol(self.protocol).key_prefix(prefix);
        let url = format!("redis://app:{PASSWORD}@{}", server().address());
        builder.add_server(url).expiry(SECOND)
    }
}

impl Backend for Least {
    type Provider = RedisLockProvider;

    async fn connect(&self) -> RedisLockProvider {
        self.try_connect().await.unwrap()
    }

    async fn try_connect(&self) -> LockResult<RedisLockProvider> {
        self.builder("{app}:").build().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_another_tenant_is_refused() {
    let other = RedisLockProvider::builder().add_server(server().url()).key_prefix("{other}:");
    let other = other.build().await.unwrap();
    let theirs = held(&other, "theirs").await;
    for prefix in ["{other}:", "other:", "", "distributed-lock:"] {
        let least = Least { protocol: RedisProtocol::Resp3 };
        let intruder = least.builder(prefix).build().await.unwrap();
        // Names of their own: the withdrawal of one that was refused is refused, too.
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
    let login = ["--user", "app", "--pass", PASSWORD];
    for command in [
        &["FLUSHALL"][..],
        &["SWAPDB", "0", "1"],
        &["KEYS", "*"],
        &["SCAN", "0"],
        &["GET", "{other}:theirs"],
        &["DEL", "{other}:theirs"],
        &["ZRANGE", "distributed-lock/1:{other}:queue:0", "0", "-1"],
        &["EVAL", "return redis.call('GET', KEYS[1])", "1", "{other}:theirs"],
        &["CONFIG", "GET", "*"],
        &["PSUBSCRIBE", "*"],
        &["SUBSCRIBE", "news"],
        &["MONITOR"],
        &["CLIENT", "KILL", "TYPE", "normal"],
    ] {
        let said = server().cli(&[&login[..], command].concat());
        let is_refused =
            said.contains("NOPERM") || said.contains("permission") || said.contains("can't access");
        assert!(is_refused, "{command:?}: {said}");
    }
    theirs.release().await.unwrap();
}
