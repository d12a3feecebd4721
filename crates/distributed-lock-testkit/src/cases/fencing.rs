//! Fencing tokens, of backends that have them.

use distributed_lock_core::TokenDurability;
use distributed_lock_core::traits::{LockHandle, LockProviderExt, Provider};

use super::two_processes;
use crate::backend::Backend;
use crate::runtimes::run;
use crate::verdicts::{granted, unique_name};

/// A later holder has a greater token, in whichever process, also if holders in between drew none.
pub fn a_later_holder_has_a_greater_token(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "tokens").await;
        assert_ne!(here.guarantees().tokens, TokenDurability::None, "it has them, so it says so");
        let mut last = None;
        for round in 0..12 {
            let process = if round % 3 == 0 { &there } else { &here };
            let held = granted(process.try_acquire_lock(&name).await);
            if round % 4 != 3 {
                let token = held.fencing_token().await.expect("a token of a held lock");
                assert!(last < Some(token), "{token} after {last:?}");
                last = Some(token);
            }
            if round % 2 == 0 {
                held.release().await.expect("a clean release");
            } else {
                drop(held);
                crate::bounds::assert_freed(&here, &name, "a drop").await;
            }
        }
    });
}

/// A handle's token never changes.
pub fn a_token_is_cached(backend: &impl Backend) {
    run(async {
        let (here, there, name) = two_processes(backend, "cached token").await;
        let held = granted(here.try_acquire_lock(&name).await);
        let first = held.fencing_token().await.expect("a token of a held lock");
        let other = granted(there.try_acquire_lock(&unique_name("another token")).await);
        other.fencing_token().await.expect("a token of a held lock");
        let (second, third) = tokio::join!(held.fencing_token(), held.fencing_token());
        assert_eq!(second.expect("a cached token"), first);
        assert_eq!(third.expect("a cached token"), first);
        held.release().await.expect("a clean release");
        other.release().await.expect("a clean release");
    });
}
