//! Requests that must not overlap.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::Shared;

type Request = Shared<Pin<Box<dyn Future<Output = ()> + Send>>>;

/// Requests that run one after the other, in the order in which they were made.
///
/// A request that waits for its turn drives those before it: it does not depend on their tasks, which
/// may never run again.
#[derive(Default)]
pub(crate) struct Turns {
    last: Mutex<Option<Request>>,
}

impl Turns {
    /// Makes a request, whose turn comes after those that were made before.
    pub(crate) fn in_turn<F>(&self, request: F) -> impl Future<Output = F::Output> + Send + use<F>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let outcome = Arc::new(Mutex::new(None));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.take().filter(|before| before.peek().is_none());
        let this = {
            let outcome = Arc::clone(&outcome);
            let turn = async move {
                if let Some(before) = before {
                    before.await;
                }
                let output = request.await;
                *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(output);
            };
            (Box::pin(turn) as Pin<Box<dyn Future<Output = ()> + Send>>).shared()
        };
        *last = Some(this.clone());
        async move {
            this.await;
            let output = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
            match output {
                Some(output) => output,
                // It is taken once, here.
                None => std::future::pending().await,
            }
        }
    }
}

impl std::fmt::Debug for Turns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Turns")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_drives_those_before_it_and_runs_after_them() {
        let turns = Turns::default();
        let order = Arc::new(Mutex::new(Vec::new()));
        let request = |number| {
            let order = Arc::clone(&order);
            turns.in_turn(async move {
                tokio::task::yield_now().await;
                order.lock().unwrap().push(number);
                number
            })
        };
        let (first, second, third) = (request(1), request(2), request(3));
        let mut first = Box::pin(first);
        assert!(first.as_mut().now_or_never().is_none());
        drop(second);
        // Neither the first, which is left alone, nor the second, which was dropped, is in the way.
        assert_eq!(third.await, 3);
        assert_eq!(first.await, 1);
        assert_eq!(*order.lock().unwrap(), [1, 2, 3]);
    }
}
