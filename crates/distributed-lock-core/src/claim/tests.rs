use std::sync::Arc;
use std::time::Duration;

use crate::claim::Claim;
use crate::clock::{ManualClock, Moment};
use crate::instruments::Instruments;
use crate::mode::Mode;
use crate::queue::{LocalQueue, WaitMode};

fn claim(clock: &ManualClock) -> Claim<u8> {
    let ticket = LocalQueue::new().join(1, Mode::Exclusive, WaitMode::Tries);
    let instruments = Instruments::new("test", Arc::new(clock.clone()));
    Claim::new(&Arc::from("test"), ticket, &instruments)
}

#[test]
fn loss_after_a_clean_release_is_not_signalled() {
    let claim = claim(&ManualClock::default());
    assert_eq!(claim.close(), Ok(()));
    claim.lose("too late");
    assert!(!claim.is_lost() && !claim.signal().is_cancelled());
}

#[test]
fn a_lease_is_lost_by_the_clock_alone_and_for_good() {
    let clock = ManualClock::default();
    let claim = claim(&clock);
    claim.set_deadline(Moment::from_nanos(10));
    assert_eq!(claim.remaining(), Some(Duration::from_nanos(10)));
    clock.advance(Duration::from_nanos(10));
    assert!(claim.is_lost() && claim.signal().is_cancelled());
    claim.set_deadline(Moment::from_nanos(1000));
    assert!(claim.is_lost(), "an extension that comes too late changes nothing");
    assert!(claim.close().is_err());
}

#[test]
fn users_can_cancel_their_token_without_losing_the_lock() {
    let claim = claim(&ManualClock::default());
    claim.public_token().cancel();
    assert!(!claim.is_lost() && !claim.signal().is_cancelled());
    claim.lose("gone");
    assert!(claim.signal().is_cancelled());
}
