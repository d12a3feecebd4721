//! The end of a provider whose server is silent.

use std::collections::HashSet;
use std::time::Duration;

use distributed_lock_core::clock::TokioClock;
use distributed_lock_core::error::LockError;
use distributed_lock_core::traits::{
    DistributedLock, LockHandle, LockProvider, LockProviderExt, Provider,
};
use tokio::time::Instant;

use super::{Call, OPERATION_TIMEOUT, Outcome, Store, TICK, When, scripted};
use crate::polled::start_waiting;
use crate::runtimes::run_paused;
use crate::verdicts::{assert_error, granted};

/// With a hundred locks held, a hundred waiters and ten releases that hang, a shutdown ends within two
/// operation timeouts, tells every holder and waiter, and names exactly those ten.
pub fn a_busy_shutdown_ends_in_time_and_names_the_ten<S: Store>(store: impl Fn() -> S) {
    run_paused(async {
        let (store, clock) = (store(), TokioClock::default());
        let ((here, script), (there, _)) = (scripted(&store, clock), scripted(&store, clock));
        let (mut held, mut elsewhere, mut waiters) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..100 {
            let (mine, others) = (format!("held {number}"), format!("waited for {number}"));
            held.push(granted(here.try_acquire_lock(&mine).await));
            elsewhere.push(granted(there.try_acquire_lock(&others).await));
            // Half of them wait at the server, half behind a holder of their own process.
            let lock = here.create_lock(if number % 2 == 0 { &others } else { &mine });
            waiters.push(start_waiting(async move { lock.acquire(None).await }));
        }
        script.spoil(Call::Release, When::From(91), Outcome::SilentBefore);
        let began = Instant::now();
        let failures = here.shutdown().await;
        let took = began.elapsed();
        assert!(took <= OPERATION_TIMEOUT * 2 + TICK, "the shutdown took {took:?}");
        let names: HashSet<&str> = failures.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((failures.len(), names.len()), (10, 10), "{names:?}");
        for number in 0..100 {
            let name = format!("held {number}");
            let free = there.try_acquire_lock(&name).await.expect("a try");
            assert_eq!(free.is_none(), names.contains(&*name), "{name}: reported wrongly");
        }
        for (_, error) in failures {
            assert_error!(Err::<(), _>(error), LockError::Connection(_));
        }
        for handle in held {
            assert!(handle.is_lost() && handle.lost_token().is_cancelled(), "not told");
            assert_error!(handle.release().await, LockError::LockLost(_));
        }
        for waiter in waiters {
            let ended = tokio::time::timeout(Duration::from_millis(1), waiter).await;
            assert_error!(ended.expect("ended by now").expect("a waiter"), LockError::Cancelled);
        }
        assert!(elsewhere.iter().all(|handle| !handle.is_lost()), "others were touched");
    });
}
