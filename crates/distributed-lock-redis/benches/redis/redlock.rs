//! Acquire and release of a free lock on five servers beside one: all up, with two that hang, and
//! with every server a millisecond away.
//!
//! On one machine the servers share a core, so that five cost five times the work of one: what that
//! comes to by itself is measured with a bare client that asks all five at once, too.

use std::time::{Duration, Instant};

use distributed_lock_core::traits::{DistributedLock, LockHandle, LockProvider};
use distributed_lock_redis::RedisLockProvider;
use distributed_lock_testkit::proxy::{FaultProxy, Way};
use distributed_lock_testkit::servers::RedisServer;

use crate::bare::Bare;
use crate::{report, spinner};

const BLOCKS: usize = 60;
const ROUNDS: u32 = 100;

pub(crate) fn run(server: &RedisServer) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(measure(server));
}

async fn measure(server: &RedisServer) {
    let five: Vec<_> = (0..5).map(|_| RedisServer::start(&[])).collect();
    five.iter().for_each(|server| spinner::bind_to_core(server.pid(), 1));
    let urls: Vec<_> = five.iter().map(RedisServer::url).collect();
    let (on_one, on_five) = (on(&[server.url()]).await, on(&urls).await);
    let mut bare_one = Bare::connect(&server.url()).await;
    let mut bare_five = Vec::new();
    for url in &urls {
        bare_five.push(Bare::connect(url).await);
    }
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..BLOCKS {
        times[0].push(timed(ROUNDS, async || bare_one.lock_and_unlock("bare").await).await);
        times[1].push(timed(ROUNDS, async || Bare::lock_and_unlock_most(&bare_five).await).await);
        times[2].push(pairs(&on_one, ROUNDS).await);
        times[3].push(pairs(&on_five, ROUNDS).await);
    }
    let [bare_one, bare_five, one, several] = &times;
    report("bare clients: five servers beside one", "none", bare_one, bare_five);
    report("five servers, beside bare clients of five", "≤ 1.25", bare_five, several);
    report("five servers, beside one (\"bare\")", "≤ 2", one, several);
    five[1..3].iter().for_each(RedisServer::pause);
    beside("the same, two of five hang", "≤ 3", &on_one, &on_five, (BLOCKS, ROUNDS)).await;
    five[1..3].iter().for_each(RedisServer::resume);

    let far: Vec<_> = five.iter().chain([server]).map(a_millisecond_away).collect();
    let urls: Vec<_> = far.iter().map(|(_, url)| url.clone()).collect();
    let (on_one, on_five) = (on(&urls[5..]).await, on(&urls[..5]).await);
    let what = "five beside one, all a millisecond away";
    beside(what, "≤ 2", &on_one, &on_five, (BLOCKS / 4, ROUNDS / 4)).await;
}

fn a_millisecond_away(server: &RedisServer) -> (FaultProxy, String) {
    let proxy = FaultProxy::start(server.address());
    proxy.delay(Way::ToServer, Duration::from_millis(1), Duration::ZERO);
    let url = server.url_by(proxy.port());
    (proxy, url)
}

async fn on(urls: &[String]) -> RedisLockProvider {
    let builder = RedisLockProvider::builder();
    let builder = urls.iter().fold(builder, |builder, url| builder.add_server(url));
    builder.build().await.unwrap()
}

async fn beside(
    what: &str,
    goal: &str,
    on_one: &RedisLockProvider,
    on_five: &RedisLockProvider,
    (blocks, rounds): (usize, u32),
) {
    let (mut one, mut several) = (Vec::new(), Vec::new());
    for _ in 0..blocks {
        one.push(pairs(on_one, rounds).await);
        several.push(pairs(on_five, rounds).await);
    }
    report(what, goal, &one, &several);
}

async fn pairs(provider: &RedisLockProvider, rounds: u32) -> Duration {
    let lock = provider.create_lock("bench");
    timed(rounds, async || lock.acquire(None).await.unwrap().release().await.unwrap()).await
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
async fn timed(rounds: u32, mut round: impl AsyncFnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..rounds {
        round().await;
    }
    start.elapsed() / rounds
}
