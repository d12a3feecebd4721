//! A primary that becomes a replica while its process and its connections live, and whose name leads to the
//! new primary.

use distributed_lock_core::prelude::*;
use distributed_lock_redis::{RedisLockProvider, RedisProtocol};
use distributed_lock_testkit::proxy::FaultProxy;
use distributed_lock_testkit::servers::RedisServer;
use tokio::time::{Instant, sleep, timeout};

use crate::queue::until_waiting;
use crate::{MS, SECOND, held, order};

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < 20 * SECOND, "not {what}");
        sleep(5 * MS).await;
    }
}

/// The refusal (READONLY) ends no wait and no hold, and it ends the connection, so that the next one is
/// to the new primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_54_waits_and_holds_follow_a_name_to_the_new_primary() {
    for protocol in [RedisProtocol::Resp2, RedisProtocol::Resp3] {
        let old = RedisServer::start(&[]);
        let new = RedisServer::start(&["--replicaof", "127.0.0.1", &old.port().to_string()]);
        let is_in_step = || new.cli(&["INFO", "replication"]).contains("master_link_status:up");
        until("a replica", is_in_step).await;
        let proxy = FaultProxy::start(old.address());
        let provider = async || {
            let builder = RedisLockProvider::builder().add_server(old.url_by(proxy.port()));
            builder.expiry(3 * SECOND).protocol(protocol).build().await.unwrap()
        };
        let (here, there) = (provider().await, provider().await);
        let handle = held(&here, "demoted").await;
        let waiting = tokio::spawn(async move {
            let acquired = there.acquire_lock("demoted", Some(30 * SECOND)).await;
            (acquired, Instant::now())
        });
        until_waiting(&old, 1).await;
        // A connection that is younger is not given up for a READONLY.
        sleep(1200 * MS).await;

        order(&old, &["FAILOVER", "TO", "127.0.0.1", &new.port().to_string()]);
        until("demoted", || old.cli(&["ROLE"]).starts_with("slave")).await;
        proxy.lead_to(new.address());
        // Longer than a lease.
        sleep(4 * SECOND).await;
        assert!(!handle.is_lost(), "{protocol:?}: extended at the new primary");
        assert!(!waiting.is_finished(), "{protocol:?}: {:?}", waiting.await);

        let key = here.native_key("demoted").unwrap();
        assert_eq!(new.cli(&["EXISTS", &key]), "1");
        let released = Instant::now();
        handle.release().await.unwrap();
        let waited = timeout(10 * SECOND, waiting).await.expect("within ten periods").unwrap();
        println!("{protocol:?}: acquired {:?} after the release", waited.1 - released);
        waited.0.unwrap().release().await.unwrap();
    }
}
