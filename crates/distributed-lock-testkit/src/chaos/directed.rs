//! Each fault at the moment when it hurts: while somebody holds and somebody else waits.

use std::time::Duration;

use super::LOSS_TOLD_WITHIN;
use super::stage::{PATIENCE, Played, Stage, acquired, left, wrote};
use crate::history::What;
use crate::nemesis::files::LockFiles;
use crate::nemesis::{Strike, remove};
use crate::worker::{Primitive, Target};

/// How soon the next holder follows a killed one.
const FOLLOWS_WITHIN: Duration = Duration::from_millis(100);

/// How long a waiter waits for a stopped holder, in vain.
const WAITS_IN_VAIN: Duration = Duration::from_millis(200);

/// Plays every scenario for which there is a primitive; what went wrong.
pub(super) fn all(stage: &mut Stage<'_, LockFiles>, targets: &[Target]) -> Vec<String> {
    let mut failures = Vec::new();
    let mut play = |name: &str, scenario: Scenario| {
        if let Err(failure) = scenario(stage) {
            failures.push(format!("{name}: {failure}"));
        }
    };
    type Scenario = fn(&mut Stage<'_, LockFiles>) -> Played;
    play("a killed holder is followed", |stage| {
        killed_holder(stage, Primitive::Mutex, Primitive::Mutex)
    });
    play("a stopped holder still holds", stopped_holder);
    play("a lock file is removed while held", |stage| removed(stage, Primitive::Mutex));
    play("a lock file is removed while its holder is stopped", removed_while_stopped);
    play("a lock file is removed while a waiter is stopped", |stage| {
        removed_under_stopped_waiter(stage, Primitive::Mutex)
    });
    let knows = |primitive: fn(&Primitive) -> bool| {
        targets.iter().any(|target| target.primitives.iter().any(primitive))
    };
    if knows(|primitive| *primitive == Primitive::Read) {
        play("a killed reader is followed by a writer", |stage| {
            killed_holder(stage, Primitive::Read, Primitive::Write)
        });
        play("a killed writer is followed by a reader", |stage| {
            killed_holder(stage, Primitive::Write, Primitive::Read)
        });
        play("a waiting writer is killed", killed_waiting_writer);
        play("a lock file is removed under a reader", |stage| removed(stage, Primitive::Read));
        play("a lock file is removed while a reader that waits is stopped", |stage| {
            removed_under_stopped_waiter(stage, Primitive::Read)
        });
    }
    if knows(|primitive| matches!(primitive, Primitive::Permit(_))) {
        play("a killed holder of a permit is followed", killed_permit);
    }
    failures
}

fn killed_holder(stage: &mut Stage<'_, LockFiles>, holds: Primitive, waits: Primitive) -> Played {
    let lock = format!("killed-{holds}-{waits}");
    let holder = stage.take(0, holds, &lock)?;
    let waiter = stage.wait(1, waits, &lock)?;
    let died = stage.crew.kill(holder.worker);
    stage.hears_by(&waiter, "granted the lock", died + FOLLOWS_WITHIN, acquired)?;
    stage.give_back(&waiter)
}

fn stopped_holder(stage: &mut Stage<'_, LockFiles>) -> Played {
    let holder = stage.take(0, Primitive::Mutex, "stopped")?;
    stage.stop(&holder);
    let waiter = stage.ask(1, Primitive::Mutex, WAITS_IN_VAIN, "stopped");
    let refused = stage.hears(&waiter, "refused", |what| *what == What::Refused);
    stage.resume(&holder);
    refused?;
    stage.write(&holder);
    stage.hears(&holder, "allowed to write", wrote(true))?;
    stage.has_not_heard(&holder, "told a loss", |what| *what == What::Lost)?;
    stage.give_back(&holder)?;
    let next = stage.take(1, Primitive::Mutex, "stopped")?;
    stage.give_back(&next)
}

fn removed(stage: &mut Stage<'_, LockFiles>, holds: Primitive) -> Played {
    let lock = format!("removed-{holds}");
    let holder = stage.take(0, holds, &lock)?;
    let waiter = stage.wait(1, Primitive::Mutex, &lock)?;
    let struck = take_files(stage, &lock);
    let told = |what: &What| *what == What::Lost;
    stage.hears_by(&holder, "told its loss", struck.done + LOSS_TOLD_WITHIN, told)?;
    stage.hears_by(&waiter, "granted the lock", struck.done + PATIENCE, acquired)?;
    stage.write(&waiter);
    stage.hears(&waiter, "allowed to write", wrote(true))?;
    if holds == Primitive::Mutex {
        stage.write(&holder);
        stage.hears(&holder, "refused a write by its token", wrote(false))?;
    }
    stage.release(&holder);
    let failed = |what: &What| matches!(what, What::ReleaseFailed { .. });
    stage.hears(&holder, "told at release that it was lost", failed)?;
    stage.give_back(&waiter)
}

fn removed_while_stopped(stage: &mut Stage<'_, LockFiles>) -> Played {
    let lock = "removed-while-stopped";
    let holder = stage.take(0, Primitive::Mutex, lock)?;
    stage.stop(&holder);
    take_files(stage, lock);
    let next = stage.take(1, Primitive::Mutex, lock).and_then(|next| {
        stage.write(&next);
        stage.hears(&next, "allowed to write", wrote(true)).map(|_| next)
    });
    let resumed = stage.resume(&holder);
    let next = next?;
    // What it was told to do before it stopped, it does now.
    stage.write(&holder);
    stage.hears(&holder, "refused a write by its token", wrote(false))?;
    let told = |what: &What| *what == What::Lost;
    stage.hears_by(&holder, "told its loss", resumed + LOSS_TOLD_WITHIN, told)?;
    stage.release(&holder);
    stage.give_back(&next)
}

/// What a waiter has open is no lock any more when it goes on, but free to be locked.
fn removed_under_stopped_waiter(stage: &mut Stage<'_, LockFiles>, waits: Primitive) -> Played {
    let lock = format!("removed-under-{waits}");
    let holder = stage.take(0, Primitive::Mutex, &lock)?;
    // Refused in the end; so it has opened the file, and waits.
    let waiter = stage.ask(1, waits, WAITS_IN_VAIN, &lock);
    stage.hears(&waiter, "asking", |what| matches!(what, What::Invoke { .. }))?;
    stage.crew.record().pause(WAITS_IN_VAIN / 4);
    stage.stop(&waiter);
    take_files(stage, &lock);
    stage.release(&holder);
    let next =
        stage.hears(&holder, "released", left).and_then(|_| stage.take(2, Primitive::Mutex, &lock));
    stage.resume(&waiter);
    let next = next?;
    stage.hears(&waiter, "refused", |what| *what == What::Refused)?;
    stage.give_back(&next)
}

/// Readers go on as soon as the writer that they waited for is dead.
fn killed_waiting_writer(stage: &mut Stage<'_, LockFiles>) -> Played {
    let lock = "killed-waiting-writer";
    let reader = stage.take(0, Primitive::Read, lock)?;
    let writer = stage.wait(1, Primitive::Write, lock)?;
    let second = stage.wait(2, Primitive::Read, lock)?;
    let died = stage.crew.kill(writer.worker);
    stage.hears_by(&second, "granted the lock", died + FOLLOWS_WITHIN, acquired)?;
    stage.give_back(&reader)?;
    stage.give_back(&second)
}

fn killed_permit(stage: &mut Stage<'_, LockFiles>) -> Played {
    let (two, lock) = (Primitive::Permit(2), "killed-permit");
    let killed = stage.take(0, two, lock)?;
    let other = stage.take(1, two, lock)?;
    let waiter = stage.wait(2, two, lock)?;
    stage.has_not_heard(&waiter, "granted a third permit of two", acquired)?;
    let died = stage.crew.kill(killed.worker);
    stage.hears_by(&waiter, "granted the permit", died + FOLLOWS_WITHIN, acquired)?;
    stage.give_back(&other)?;
    stage.give_back(&waiter)
}

/// Removes the files that holders of the lock have locked.
fn take_files(stage: &mut Stage<'_, LockFiles>, lock: &str) -> Strike {
    let strike = remove(stage.backend, stage.crew, lock.to_owned());
    stage.strikes.push(strike.clone());
    strike
}
