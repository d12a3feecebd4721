//! Each fault at the moment when it hurts: while somebody holds and others wait.

use std::time::Duration;

use distributed_lock_testkit::chaos::{self, Played, Try, acquired, left, wrote};
use distributed_lock_testkit::history::{Event, What, now};
use distributed_lock_testkit::nemesis::Noise;
use distributed_lock_testkit::proxy::Way;
use distributed_lock_testkit::worker::Primitive;

use super::{LEASE, Services};

type Stage<'a> = chaos::Stage<'a, Services>;

/// How soon the next holder follows one whose lease nobody renews.
const FOLLOWS_WITHIN: Duration = Duration::from_millis(1500);

/// How soon a free lock is had over a link or from a server that was just broken.
const RECOVERS_WITHIN: Duration = Duration::from_secs(2);

/// How long a fault is looked at whose holders notice nothing: two renewals.
const UNNOTICED_FOR: Duration = Duration::from_millis(400);

/// For how long nothing may run in a scenario that counts: less than leases last beyond a renewal.
const DISTURBS: Duration = Duration::from_millis(50);

/// How often a scenario is played at most.
const TIMES: usize = 4;

/// Plays every scenario; what went wrong.
pub(super) fn all(stage: &mut Stage<'_>) -> Vec<String> {
    let mut failures = Vec::new();
    let mut play = |name: &str, scenario: &dyn Fn(&mut Stage<'_>) -> Played| {
        if let Err(failure) = as_often_as_disturbed(stage, scenario) {
            failures.push(format!("{name}: {failure}"));
        }
    };
    let mutex = Primitive::Mutex;
    play("a killed holder is followed", &|stage| killed_holder(stage, mutex, mutex));
    play("a killed reader is followed by a writer", &|stage| {
        killed_holder(stage, Primitive::Read, Primitive::Write)
    });
    play("a killed writer is followed by a reader", &|stage| {
        killed_holder(stage, Primitive::Write, Primitive::Read)
    });
    play("a killed holder of a permit is followed", &|stage| {
        killed_holder(stage, Primitive::Permit(1), Primitive::Permit(1))
    });
    play("a stopped holder is followed, and refused by its token", &stopped_holder);
    play("all are served in the order of their places", &|stage| served_in_order(stage, &[]));
    play("also when one of them is killed and one is stopped", &|stage| {
        served_in_order(stage, &[Gone::Killed(2), Gone::Stopped(4)])
    });
    play("a holder whose renewals do not get through is told", &stalled_renewals);
    play("a link is reset", &|stage| unnoticed(stage, "reset", |of| of.proxy.reset_all()));
    play("connections are killed and scripts forgotten", &|stage| {
        unnoticed(stage, "forgotten", |of| {
            drop(of.server.cli(&["SCRIPT", "FLUSH"]));
            drop(of.server.cli(&["CLIENT", "KILL", "TYPE", "normal"]));
        })
    });
    play("the server is killed and comes back", &|stage| {
        unnoticed(stage, "restarted", |of| {
            of.server.kill();
            of.server.restart();
        })
    });
    failures
}

/// A machine that stands still for long ends leases by itself; what went wrong meanwhile is played
/// again.
fn as_often_as_disturbed(
    stage: &mut Stage<'_>,
    scenario: &dyn Fn(&mut Stage<'_>) -> Played,
) -> Played {
    for _ in 1..TIMES {
        let (began, noise) = (now(), Noise::measure());
        let played = scenario(stage);
        let noise = noise.worst();
        if noise > DISTURBS {
            let (who, lock) = ("machine".to_owned(), String::new());
            let what = What::Fault { kind: format!("stood still for {noise:?}") };
            stage.crew.record().add(Event { at: began, who, attempt: 0, lock, what });
        }
        if played.is_ok() || noise <= DISTURBS {
            return played;
        }
        println!("played again after {noise:?} in which nothing ran: {played:?}");
        stage.backend.proxy.heal();
        stage.resume_all();
    }
    scenario(stage)
}

fn killed_holder(stage: &mut Stage<'_>, holds: Primitive, waits: Primitive) -> Played {
    let lock = format!("killed-{holds}-{waits}-{}", stage.attempts);
    let holder = stage.take(0, holds, &lock)?;
    let waiter = stage.wait(1, waits, &lock)?;
    let died = stage.crew.kill(holder.worker);
    stage.hears_by(&waiter, "granted the lock", died + FOLLOWS_WITHIN, acquired)?;
    stage.give_back(&waiter)
}

fn stopped_holder(stage: &mut Stage<'_>) -> Played {
    let lock = format!("stopped-{}", stage.attempts);
    let holder = stage.take(0, Primitive::Mutex, &lock)?;
    let waiter = stage.wait(1, Primitive::Mutex, &lock)?;
    stops(stage, &holder);
    let stopped = now();
    stage.hears_by(&waiter, "granted the lock", stopped + FOLLOWS_WITHIN, acquired)?;
    stage.write(&waiter);
    stage.hears(&waiter, "allowed to write", wrote(true))?;
    // What it was told to do before it went on, it does now.
    stage.write(&holder);
    let resumed = stage.resume(&holder);
    stage.hears(&holder, "refused a write by its token", wrote(false))?;
    stage.hears_by(&holder, "told its loss", resumed, |what| *what == What::Lost)?;
    stage.release(&holder);
    stage.hears(&holder, "told at release that it was lost", release_failed)?;
    stage.give_back(&waiter)
}

/// What becomes of a waiter, by its place.
#[derive(Clone, Copy, PartialEq)]
enum Gone {
    Killed(usize),
    Stopped(usize),
}

/// Six wait, one after the other; those who are still there are granted the lock in that order.
fn served_in_order(stage: &mut Stage<'_>, gone: &[Gone]) -> Played {
    let lock = format!("order-{}", stage.attempts);
    let modes = [Primitive::Mutex, Primitive::Read, Primitive::Write];
    let first = stage.take(0, Primitive::Write, &lock)?;
    let mut waiting: Vec<Try> = Vec::new();
    for place in 1..=6 {
        waiting.push(stage.wait(place, modes[place % 3], &lock)?);
        stage.until_queued(&lock, place)?;
    }
    for gone in gone {
        match *gone {
            Gone::Killed(place) => drop(stage.crew.kill(place)),
            Gone::Stopped(place) => stops(stage, &waiting[place - 1]),
        }
    }
    stage.release(&first);
    for (place, waiter) in (1..).zip(&waiting) {
        if gone.contains(&Gone::Killed(place)) || gone.contains(&Gone::Stopped(place)) {
            continue;
        }
        stage.hears(waiter, "granted the lock", acquired)?;
        for later in &waiting[place..] {
            stage.has_not_heard(later, "granted the lock before its turn", acquired)?;
        }
        stage.give_back(waiter)?;
    }
    for gone in gone {
        if let Gone::Stopped(place) = *gone {
            let stopped = &waiting[place - 1];
            stage.resume(stopped);
            stage.hears(stopped, "granted the lock after all", acquired)?;
            stage.give_back(stopped)?;
        }
    }
    Ok(())
}

/// Longer than a lease: whoever holds is told by its own clock, and the next one is granted after that.
fn stalled_renewals(stage: &mut Stage<'_>) -> Played {
    let lock = format!("stalled-{}", stage.attempts);
    let holder = stage.take(0, Primitive::Mutex, &lock)?;
    let waiter = stage.wait(1, Primitive::Mutex, &lock)?;
    stage.until_queued(&lock, 1)?;
    stage.disturb("stalled");
    stage.backend.proxy.stall(Way::ToServer);
    let stalled = now();
    let told = |what: &What| *what == What::Lost;
    let lost = stage.hears_by(&holder, "told its loss", stalled + LEASE, told);
    stage.backend.proxy.heal();
    let (lost, healed) = (lost?, now());
    let next = stage.hears_by(&waiter, "granted", healed + FOLLOWS_WITHIN, acquired)?;
    if next.at < lost.at {
        return Err("the next one was granted before the holder was told".to_owned());
    }
    stage.release(&holder);
    stage.hears(&holder, "told at release that it was lost", release_failed)?;
    stage.give_back(&waiter)
}

/// A fault that neither a holder nor a waiter notices.
fn unnoticed(stage: &mut Stage<'_>, kind: &str, strike: impl Fn(&Services)) -> Played {
    let number = stage.attempts;
    let (lock, permits) = (format!("{kind}-{number}"), format!("permits-{kind}-{number}"));
    let holder = stage.take(0, Primitive::Mutex, &lock)?;
    let two = Primitive::Permit(2);
    let permits = [stage.take(2, two, &permits)?, stage.take(3, two, &permits)?];
    let waiter = stage.wait(1, Primitive::Write, &lock)?;
    stage.until_queued(&lock, 1)?;
    stage.disturb(kind);
    strike(stage.backend);
    stage.crew.record().pause(UNNOTICED_FOR);
    for held in [&holder, &permits[0], &permits[1]] {
        stage.has_not_heard(held, "told a loss", |what| *what == What::Lost)?;
    }
    stage.write(&holder);
    stage.hears(&holder, "allowed to write", wrote(true))?;
    stage.has_not_heard(&waiter, "granted what another holds", acquired)?;
    let released = now();
    stage.release(&holder);
    stage.hears(&holder, "released", left)?;
    stage.hears_by(&waiter, "granted the lock", released + RECOVERS_WITHIN, acquired)?;
    for held in [&waiter, &permits[0], &permits[1]] {
        stage.give_back(held)?;
    }
    Ok(())
}

/// Its leases run out before it can say so.
fn stops(stage: &mut Stage<'_>, of: &Try) {
    let who = stage.crew.who(of.worker).to_owned();
    stage.crew.record().log(&who, "", What::FaultEndsHold { row: 2 });
    stage.stop(of);
    // Once more: what it was granted in between runs out, too.
    stage.crew.record().log(&who, "", What::FaultEndsHold { row: 2 });
}

fn release_failed(what: &What) -> bool {
    matches!(what, What::ReleaseFailed { .. })
}

/// What only a server can be asked, and what strikes everybody.
trait OnServer {
    fn until_queued(&self, lock: &str, places: usize) -> Played;
    fn disturb(&self, kind: &str);
}

impl OnServer for Stage<'_> {
    /// Until so many places of a lock's queue are taken.
    fn until_queued(&self, lock: &str, places: usize) -> Played {
        let any = format!("distributed-lock/1:{{distributed-lock:{lock}}}:queue:*");
        let end = now() + RECOVERS_WITHIN;
        loop {
            let queue = self.backend.server.cli(&["KEYS", &any]);
            let taken = self.backend.server.cli(&["ZCARD", &queue]);
            if taken == places.to_string() {
                return Ok(());
            }
            if now() > end {
                return Err(format!("{taken} places taken of {lock}, not {places}"));
            }
        }
    }

    fn disturb(&self, kind: &str) {
        self.crew.record().log("link", "", What::Fault { kind: kind.to_owned() });
    }
}
