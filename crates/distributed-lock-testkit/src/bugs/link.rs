//! The way between a client and its server.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::faults::Call;

/// How long requests and replies of one client are under way. Clones are the same link; a new one
/// takes no time.
///
/// A request that is dropped on its way does not arrive.
#[derive(Debug, Clone, Default)]
pub struct Link(Arc<Mutex<HashMap<Call, Delays>>>);

#[derive(Debug, Clone, Copy, Default)]
struct Delays {
    there: Duration,
    back: Duration,
}

impl Link {
    /// From now on requests of this kind arrive `there` later, and their replies take `back`.
    pub fn delay(&self, call: Call, there: Duration, back: Duration) {
        let mut delays = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        delays.insert(call, Delays { there, back });
    }

    /// Takes one request there, and its reply back.
    pub(super) async fn travel<T>(&self, call: Call, request: impl Future<Output = T>) -> T {
        let Delays { there, back } = self.delays(call);
        pass(there).await;
        let reply = request.await;
        pass(back).await;
        reply
    }

    fn delays(&self, call: Call) -> Delays {
        let delays = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        delays.get(&call).copied().unwrap_or_default()
    }
}

async fn pass(delay: Duration) {
    if delay > Duration::ZERO {
        tokio::time::sleep(delay).await;
    }
}
