//! Holders that are gone after another program has removed the expiry of their keys.

use distributed_lock_core::Mode;
use distributed_lock_core::error::LockError;
use distributed_lock_testkit::proxy::FaultProxy;
use distributed_lock_testkit::servers::RedisServer;

use super::MODES;
use super::stage::acquire;
use super::states::label;
use crate::group::{self, Group};
use crate::{MS, SECOND, order};

async fn are_freed(servers: &[RedisServer]) {
    let proxies: Vec<_> = servers.iter().map(|it| FaultProxy::start(it.address())).collect();
    let ways = servers.iter().zip(&proxies);
    let urls: Vec<_> = ways.map(|(server, proxy)| server.url_by(proxy.port())).collect();
    let dies = group::of(&urls).expiry(2 * SECOND).build().await.unwrap();
    let urls: Vec<_> = servers.iter().map(RedisServer::url).collect();
    let here = group::of(&urls).expiry(2 * SECOND).build().await.unwrap();
    let name = |mode| format!("endless {}", label(mode));
    let mut held = Vec::new();
    for mode in MODES {
        held.push(acquire(&dies, &name(mode), mode, None).await.unwrap());
    }
    for (server, proxy) in servers.iter().zip(&proxies) {
        proxy.refuse();
        proxy.reset_all();
        for key in server.cli(&["KEYS", "*endless*"]).lines() {
            order(server, &["PERSIST", key]);
        }
    }
    // A lease, a fallback period and much slack.
    let freeing = MODES.map(|mode| {
        let (here, rival) =
            (here.clone(), if mode == Mode::Shared { Mode::Exclusive } else { mode });
        async move {
            let refused = acquire(&here, &name(mode), rival, Some(300 * MS)).await.map(drop);
            assert!(matches!(refused, Err(LockError::Timeout(_))), "{mode:?}: {refused:?}");
            let freed = acquire(&here, &name(mode), rival, Some(15 * SECOND)).await;
            freed.unwrap_or_else(|error| panic!("{mode:?}: {error:?}")).release().await.unwrap();
        }
    });
    futures_util::future::join_all(freeing).await;
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_73_holds_whose_expiry_was_removed_end_on_one_server() {
    are_freed(&[RedisServer::start(&[])]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_73_holds_whose_expiry_was_removed_end_on_several_servers() {
    are_freed(&Group::start(3).0).await;
}
