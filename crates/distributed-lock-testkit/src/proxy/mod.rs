//! A link to a server that fails as it is told.
//!
//! ```no_run
//! use distributed_lock_testkit::proxy::{FaultProxy, Way};
//! use distributed_lock_testkit::servers::RedisServer;
//!
//! let server = RedisServer::shared();
//! let proxy = FaultProxy::start(server.address());
//! let url = server.url_by(proxy.port());
//! // ... connect to `url` and take a lock ...
//! proxy.black_hole(Way::ToClient);
//! // ... requests still arrive, and no reply comes ...
//! proxy.heal();
//! assert!(proxy.effects().vanished > 0);
//! ```

mod connection;
mod door;
mod link;
mod postgres_messages;
mod pump;
mod requests;
mod resp;
mod rules;
mod tally;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use self::door::Proxy;
use self::rules::Admission;
pub use self::tally::Effects;
use crate::servers::{port::Port, soon};

/// How soon the proxy's thread does what it is told: only a hang takes that long.
const OBEYS_WITHIN: Duration = Duration::from_secs(10);

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// Requests.
    ToServer,
    /// Replies.
    ToClient,
}

/// A TCP proxy in front of one server, on a thread of its own: it works whatever the test's runtime
/// does. It and its connections end when it is dropped. If the server does not accept a connection,
/// the client's is reset.
///
/// Faults begin with the call that asks for them, are there together, hold for all connections, new
/// and old, unless it says otherwise, and last until [`heal`](Self::heal). What has passed the proxy
/// or waits in it for its latency is not struck.
#[derive(Debug)]
pub struct FaultProxy {
    port: Port,
    proxy: Arc<Proxy>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FaultProxy {
    /// Starts one; connections are to the server at `upstream`.
    ///
    /// # Panics
    /// If no port is free.
    #[must_use]
    pub fn start(upstream: impl Into<SocketAddr>) -> Self {
        let port = Port::claim();
        let listens = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
        let proxy = Arc::new(Proxy::new(listens, upstream.into()));
        let (end, ended) = oneshot::channel();
        let served = Arc::clone(&proxy);
        let thread = std::thread::spawn(move || door::run(&served, ended));
        let started = Self { port, proxy, end: Some(end), thread: Some(thread) };
        started.until(|proxy| proxy.listens());
        started
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port()).into()
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// New connections lead to this server instead; those that are open stay where they are. A name that
    /// is given to another server does the same. [`heal`](Self::heal) does not take it back.
    pub fn lead_to(&self, upstream: impl Into<SocketAddr>) {
        *self.proxy.upstream() = upstream.into();
    }

    /// All bytes arrive later by `latency` and by up to `jitter` more, in their order.
    pub fn delay(&self, way: Way, latency: Duration, jitter: Duration) {
        self.proxy.rules.change(|rules| {
            let way = rules.way(way);
            (way.latency, way.jitter) = (latency, jitter);
        });
    }

    /// Each connection carries at most so many bytes a second.
    ///
    /// # Panics
    /// If that is zero: [`stall`](Self::stall) is what that would be.
    pub fn limit(&self, way: Way, bytes_per_second: u64) {
        assert_ne!(bytes_per_second, 0, "nothing would ever arrive");
        self.proxy.rules.change(|rules| rules.way(way).bandwidth = Some(bytes_per_second));
    }

    /// Everything is kept, and arrives once it is healed: a partition that TCP survives.
    pub fn stall(&self, way: Way) {
        self.proxy.rules.change(|rules| rules.way(way).stalls = true);
    }

    /// Everything vanishes, the ends of connections too, and connections stay: a partition for good.
    /// A connection of which something has vanished carries nothing more that way, even when others
    /// are healed: no TCP connection delivers what follows a gap.
    pub fn black_hole(&self, way: Way) {
        self.lose_after(way, 0);
    }

    /// The next `bytes` that way, of all connections together, still pass; then it is a
    /// [`black_hole`](Self::black_hole).
    pub fn lose_after(&self, way: Way, bytes: u64) {
        self.proxy.rules.change(|rules| rules.way(way).vanishes_after = Some(bytes));
    }

    /// The next request that has these bytes in it reaches the server, and not a byte reaches
    /// that client from then on. Other connections work, later ones too.
    ///
    /// # Panics
    /// If there are no bytes to look for.
    pub fn lose_reply_to(&self, request: &[u8]) {
        assert!(!request.is_empty(), "every request would have that in it");
        self.proxy.rules.change(|rules| rules.loses_reply_to = Some(request.to_owned()));
    }

    /// The next request that has these bytes in it is kept, and its connection is closed for the
    /// client, whose later connections work. The server gets it by [`deliver`](Self::deliver): a
    /// connection that was reported closed may still deliver.
    ///
    /// # Panics
    /// If there are no bytes to look for.
    pub fn hold_request(&self, request: &[u8]) {
        assert!(!request.is_empty(), "every request would have that in it");
        self.proxy.rules.change(|rules| rules.holds = Some(request.to_owned()));
    }

    /// How many requests were kept by [`hold_request`](Self::hold_request) and not delivered.
    #[must_use]
    pub fn held_requests(&self) -> u64 {
        self.proxy.tally.held.get() - self.proxy.tally.delivered_late.get()
    }

    /// Delivers all requests that were kept. When it returns, the server has answered them.
    pub fn deliver(&self) {
        self.proxy.rules.change(|rules| rules.deliveries += 1);
        self.until(|proxy| proxy.tally.held.get() == proxy.tally.delivered_late.get());
    }

    /// The next `bytes` that way, of all connections together, still pass; the connection that would
    /// carry the next one is closed. Once: other connections work, later ones too.
    pub fn cut_after(&self, way: Way, bytes: u64) {
        self.proxy.rules.change(|rules| rules.way(way).cut_after = Some(bytes));
    }

    /// Resets all connections (RST); new ones work. They are gone when it returns.
    pub fn reset_all(&self) {
        self.proxy.rules.change(|rules| rules.resets += 1);
        let resets = self.proxy.rules.now(|rules| rules.resets);
        self.until(|proxy| proxy.are_older_gone(resets));
    }

    /// New connections are refused, as if no server were there; those that exist work.
    pub fn refuse(&self) {
        self.proxy.rules.change(|rules| rules.admission = Admission::Refuses);
        self.until(|proxy| !proxy.listens());
    }

    /// New connections are accepted and never answered; those that exist work.
    pub fn accept_and_say_nothing(&self) {
        self.proxy.rules.change(|rules| rules.admission = Admission::Mute);
    }

    /// Ends all faults. Connections that were never answered, or of which something has vanished,
    /// stay as they are; clients try again on others.
    pub fn heal(&self) {
        self.proxy.rules.heal();
        self.until(|proxy| proxy.listens());
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.proxy.tally.connections()
    }

    /// How many connections there ever were.
    #[must_use]
    pub fn connections_ever(&self) -> u64 {
        self.proxy.tally.connections_ever()
    }

    /// How many bytes were delivered.
    #[must_use]
    pub fn bytes(&self, way: Way) -> u64 {
        self.proxy.tally.bytes(way)
    }

    /// How many requests clients have sent, whatever became of them: commands of Redis, or queries
    /// and executions of PostgreSQL (messages `Query` and `Execute`). Which it is, is seen by the
    /// first byte of a connection; encrypted ones have none.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.proxy.tally.requests()
    }

    /// How often faults took effect.
    #[must_use]
    pub fn effects(&self) -> Effects {
        self.proxy.tally.effects()
    }

    fn until(&self, mut is_so: impl FnMut(&Proxy) -> bool) {
        let is_so = soon::within(OBEYS_WITHIN, || is_so(&self.proxy));
        assert!(is_so, "the proxy's thread has ended or hangs");
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // If it has panicked, that was printed, and the test's own failure is what counts.
            let _ = thread.join();
        }
    }
}
