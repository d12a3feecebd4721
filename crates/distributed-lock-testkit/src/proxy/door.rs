//! The proxy's thread: who comes in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::net::{Shutdown, shutdown};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::connection;
use super::link::Link;
use super::rules::{Admission, Rules};
use super::tally::Tally;

/// What the test and the proxy's thread share.
#[derive(Debug)]
pub(super) struct Proxy {
    listens_at: SocketAddr,
    /// Where new connections lead.
    upstream: Mutex<SocketAddr>,
    pub(super) rules: Rules,
    pub(super) tally: Tally,
    listens: AtomicBool,
    /// How many connections are open, by how often all had been reset when they began.
    open: Mutex<BTreeMap<u64, u64>>,
}

impl Proxy {
    pub(super) fn new(listens_at: SocketAddr, upstream: SocketAddr) -> Self {
        let (rules, tally) = (Rules::default(), Tally::default());
        let (listens, open) = (AtomicBool::new(false), Mutex::default());
        Self { listens_at, upstream: Mutex::new(upstream), rules, tally, listens, open }
    }

    pub(super) fn upstream(&self) -> MutexGuard<'_, SocketAddr> {
        self.upstream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether clients can connect.
    pub(super) fn listens(&self) -> bool {
        self.listens.load(Ordering::SeqCst)
    }

    /// Whether all connections that began before the latest of so many resets are gone.
    pub(super) fn are_older_gone(&self, resets: u64) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.range(..resets).all(|(_, connections)| *connections == 0)
    }

    fn count(&self, link: &Link, change: impl FnOnce(&mut u64)) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        change(open.entry(link.resets).or_default());
    }
}

/// Serves until the other end of `ended` is dropped.
pub(super) fn run(proxy: &Arc<Proxy>, ended: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        tokio::select! {
            // Dropped, which is the message.
            _ = ended => {}
            () = serve(proxy) => {}
        }
    });
}

/// Nobody can connect once it is dropped. To close the socket is not enough: a child that is just
/// being started by another test has it open, too, until it becomes another program.
struct Listening(TcpListener);

impl Drop for Listening {
    fn drop(&mut self) {
        // It fails only if nobody listens.
        let _ = shutdown(&self.0, Shutdown::Both);
    }
}

async fn serve(proxy: &Arc<Proxy>) {
    loop {
        proxy.rules.until(|faults| faults.admission != Admission::Refuses).await;
        let listener = TcpListener::bind(proxy.listens_at).await.expect("the port is claimed");
        let listening = Listening(listener);
        proxy.listens.store(true, Ordering::SeqCst);
        tokio::select! {
            () = accept(proxy, &listening.0) => {}
            () = proxy.rules.until(|faults| faults.admission == Admission::Refuses) => {}
        }
        drop(listening);
        proxy.listens.store(false, Ordering::SeqCst);
    }
}

async fn accept(proxy: &Arc<Proxy>, listener: &TcpListener) {
    while let Ok((client, _)) = listener.accept().await {
        let (admission, resets) = proxy.rules.now(|faults| (faults.admission, faults.resets));
        let link = Link::new(resets);
        proxy.count(&link, |open| *open += 1);
        tokio::spawn(serve_one(Arc::clone(proxy), link, client, admission));
    }
}

async fn serve_one(proxy: Arc<Proxy>, link: Link, client: TcpStream, admission: Admission) {
    {
        let _open = proxy.tally.open();
        connection::serve(&proxy, &link, client, admission).await;
    }
    proxy.count(&link, |open| *open -= 1);
}
