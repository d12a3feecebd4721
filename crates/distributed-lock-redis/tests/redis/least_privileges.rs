//! A user with exactly the rights that `docs/security.md` lists passes the conformance suite, and is
//! refused what belongs to others.

use std::sync::OnceLock;

use distributed_lock_core::error::LockResult;
use distributed_lock_core::prelude::*;
use distributed_lock_redis::{
    RedisLockProvider, RedisLockProviderBuilder, RedisProtocol, ServerError,
};
use distributed_lock_testkit::servers::RedisServer;
use distributed_lock_testkit::{Backend, conformance};

use crate::{SECOND, held, is_backend};

conformance!(concrete one_server_resp3: Least { protocol: RedisProtocol::Resp3 },
    with readers_writer, with semaphore, with fencing, with leases);
conformance!(concrete one_server_resp2: Least { protocol: RedisProtocol::Resp2 },
    with readers_writer, with semaphore, with fencing, with leases);

const CRATE_DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs");
const SECURITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/security.md");
pub(crate) const PASSWORD: &str = "of-the-tenant";

/// The words of the commands that a page documents.
fn commands_in(page: &str) -> Vec<Vec<String>> {
    let page = std::fs::read_to_string(page).unwrap().replace("//! ", "");
    let commands = page.split("```text\nACL SETUSER").skip(1).map(|command| {
        let (command, _) = command.split_once("```").unwrap();
        let words = format!("ACL SETUSER{command}").replace("PASSWORD", PASSWORD);
        words.split_whitespace().map(str::to_owned).collect()
    });
    commands.collect()
}

/// For one server, and what several need beyond that.
fn documented() -> Vec<Vec<String>> {
    let commands = commands_in(SECURITY);
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

/// The rights in a command, those to commands first.
fn rights(command: &[String]) -> Vec<&str> {
    let is_right = |word: &&str| word.starts_with(['+', '~', '&', '%']);
    let mut rights: Vec<_> = command.iter().map(String::as_str).filter(is_right).collect();
    rights.sort_unstable();
    rights
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

/// The remedy that a provider warns with, and the crate's documentation, give the rights that are tested
/// here, and no more.
#[test]
fn row_73_the_remedy_for_missing_rights_is_the_least_that_is_needed() {
    let server = RedisServer::start(&[]);
    let url = server.url().replace("redis://", &format!("redis://app:{PASSWORD}@"));
    for prefix in ["{app}:", "distributed-lock:"] {
        let few = ["ACL", "SETUSER", "app", "reset", "on", &format!(">{PASSWORD}"), "+info"];
        assert_eq!(server.cli(&few), "OK");
        let builder = || RedisLockProvider::builder().add_server(&url).key_prefix(prefix);
        let warned = crate::health::warnings_of(builder(), false);
        let warning = warned.iter().find(|text| text.contains("ACL SETUSER")).unwrap();
        let (_, remedy) = warning.split_once("Remedy: ").unwrap();
        let remedy: Vec<_> =
            remedy.replace("<user>", "app").split_whitespace().map(str::to_owned).collect();
        let page = if prefix == "{app}:" { SECURITY } else { CRATE_DOCS };
        assert_eq!(rights(&remedy), rights(&commands_in(page)[0]), "{prefix}");
        let words: Vec<&str> = remedy.iter().map(String::as_str).collect();
        assert_eq!(server.cli(&words), "OK");
        let told = crate::health::warnings_of(builder(), true);
        assert!(!told.iter().any(|text| text.contains("ACL")), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_may_not_ping_is_told_so() {
    let server = RedisServer::start(&[]);
    make_user(&server, 1);
    assert_eq!(server.cli(&["ACL", "SETUSER", "app", "-ping"]), "OK");
    let url = server.url().replace("redis://", &format!("redis://app:{PASSWORD}@"));
    let builder = || RedisLockProvider::builder().add_server(&url).key_prefix("{app}:");
    let refused = builder().protocol(RedisProtocol::Resp2).build().await.unwrap_err();
    assert!(matches!(refused, LockError::Backend(_)), "{refused:?}");
    let text = refused.find_source::<ServerError>().unwrap().to_string();
    assert!(text.contains("NOPERM") && text.contains("+ping"), "{text}");
    assert!(text.contains(&server.address().to_string()), "{text}");
    // RESP3 begins with HELLO, which needs no right.
    let here = builder().protocol(RedisProtocol::Auto).build().await.unwrap();
    held(&here, "without ping").await.release().await.unwrap();
}
