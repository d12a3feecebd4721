//! What undisturbed work costs the server.

use distributed_lock_core::clock::TokioClock;
use distributed_lock_core::error::LockError;
use distributed_lock_core::traits::{LockHandle, LockProviderExt, Provider};

use super::{Call, Script, Store, scripted};
use crate::runtimes::run_paused;
use crate::verdicts::{assert_error, granted};

/// A free lock is had with one request, its token with at most one however often it is asked for,
/// and it is given back with at most one.
pub fn a_lock_costs_one_request_each_way<S: Store>(store: impl Fn() -> S) {
    run_paused(async {
        let store = store();
        let (here, script) = scripted(&store, TokioClock::default());
        let held = granted(here.try_acquire_lock("cheap").await);
        assert_eq!(requests(&script), [1, 0, 0, 0, 0, 0]);
        let first = held.fencing_token().await.expect("a token of a held lock");
        for _ in 0..3 {
            assert_eq!(held.fencing_token().await.expect("a cached token"), first);
        }
        assert!(script.calls(Call::FencingToken) <= 1, "the token was drawn more than once");
        held.release().await.expect("a clean release");
        let [tries, waits, withdrawals, extensions, releases, _] = requests(&script);
        assert_eq!([tries, waits, withdrawals, extensions], [1, 0, 0, 0]);
        assert!(releases <= 1, "{releases} requests for one release");
    });
}

/// After a shutdown the server is not asked any more.
pub fn an_ended_provider_asks_nothing<S: Store>(store: impl Fn() -> S) {
    run_paused(async {
        let store = store();
        let (here, script) = scripted(&store, TokioClock::default());
        let failures = here.shutdown().await;
        assert!(failures.is_empty(), "nothing was held, and could not be released: {failures:?}");
        assert_error!(here.try_acquire_lock("too late").await, LockError::Cancelled);
        assert_error!(here.acquire_lock("too late", None).await, LockError::Cancelled);
        assert_eq!(requests(&script), [0; 6]);
    });
}

fn requests(script: &Script) -> [u64; 6] {
    Call::ALL.map(|call| script.calls(call))
}
