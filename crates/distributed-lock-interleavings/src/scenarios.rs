//! What some threads do with the queue and with claims at the same time. Each panics in the
//! interleaving that breaks it.

use std::sync::Arc;

use loom::future::block_on;
use loom::thread;

use crate::claim::Claim;
use crate::mode::Mode;
use crate::queue::{LocalQueue, Ticket, WaitMode};
use crate::stand_ins::Instruments;
use crate::sync::atomic_count::Inside;

type Queue = Arc<LocalQueue<u8>>;

fn join(queue: &Queue, mode: Mode, wait_mode: WaitMode) -> Ticket<u8> {
    queue.join(1, mode, wait_mode)
}

fn claim(queue: &Queue) -> Arc<Claim<u8>> {
    let ticket = join(queue, Mode::Exclusive, WaitMode::Waits);
    Arc::new(Claim::new(&Arc::from("name"), ticket, &Instruments::new()))
}

/// Takes the lock as the engine does, holds it and leaves.
fn hold_once(queue: &Queue, mode: Mode, inside: &Inside) {
    let ticket = join(queue, mode, WaitMode::Waits);
    assert!(block_on(ticket.admitted()), "a ticket that waits is never refused");
    ticket.held();
    inside.enter(mode);
    inside.leave(mode);
    ticket.ending();
    ticket.leave();
}

/// Holders that exclude each other are never held together, and every waiting ticket is admitted.
pub fn those_that_wait_are_admitted_one_after_another() {
    loom::model(|| {
        let (queue, inside) = (LocalQueue::new(), Arc::new(Inside::new()));
        let (other, seen) = (Arc::clone(&queue), Arc::clone(&inside));
        let thread = thread::spawn(move || hold_once(&other, Mode::Exclusive, &seen));
        hold_once(&queue, Mode::Exclusive, &inside);
        thread.join().unwrap_or_else(|_| panic!("the other thread"));
    });
}

/// A reader and a writer.
pub fn readers_and_writers_exclude_each_other() {
    loom::model(|| {
        let (queue, inside) = (LocalQueue::new(), Arc::new(Inside::new()));
        let (other, seen) = (Arc::clone(&queue), Arc::clone(&inside));
        let thread = thread::spawn(move || hold_once(&other, Mode::Shared, &seen));
        hold_once(&queue, Mode::Exclusive, &inside);
        thread.join().unwrap_or_else(|_| panic!("the other thread"));
    });
}

/// A waiting ticket is dropped while the holder leaves: the next one behind it is admitted all the same.
pub fn a_dropped_ticket_passes_its_turn_on() {
    loom::model(|| {
        let queue: Queue = LocalQueue::new();
        let holder = join(&queue, Mode::Exclusive, WaitMode::Waits);
        holder.held();
        let dropped = join(&queue, Mode::Exclusive, WaitMode::Waits);
        let last = join(&queue, Mode::Exclusive, WaitMode::Waits);
        let thread = thread::spawn(move || drop(dropped));
        let leaves = thread::spawn(move || {
            holder.ending();
            holder.leave();
        });
        assert!(block_on(last.admitted()), "the last one is admitted");
        for thread in [thread, leaves] {
            thread.join().unwrap_or_else(|_| panic!("another thread"));
        }
    });
}

/// A try that comes while the holder releases waits for that, or was refused by the holder; it is never
/// left without an answer.
pub fn a_try_during_a_release_is_answered() {
    loom::model(|| {
        let queue: Queue = LocalQueue::new();
        let holder = join(&queue, Mode::Exclusive, WaitMode::Waits);
        holder.held();
        let thread = thread::spawn(move || {
            holder.ending();
            holder.leave();
        });
        let try_once = join(&queue, Mode::Exclusive, WaitMode::Tries);
        block_on(try_once.admitted());
        thread.join().unwrap_or_else(|_| panic!("the other thread"));
    });
}

/// A loss while the holder asks for its token: a holder that is lost has a cancelled token.
pub fn a_lost_claim_has_a_cancelled_token() {
    loom::model(|| {
        let queue = LocalQueue::new();
        let lost = claim(&queue);
        let other = Arc::clone(&lost);
        let thread = thread::spawn(move || other.lose("gone"));
        let (signal, public) = (lost.signal().clone(), lost.public_token().clone());
        thread.join().unwrap_or_else(|_| panic!("the other thread"));
        assert!(lost.is_lost(), "it was lost");
        assert!(
            signal.is_cancelled() && public.is_cancelled(),
            "lost, and its token is not cancelled"
        );
    });
}

/// A loss and a release at the same time: exactly one of them ends the claim, and the next ticket goes on.
pub fn a_claim_ends_once() {
    loom::model(|| {
        let queue = LocalQueue::new();
        let ending = claim(&queue);
        ending.becomes_a_hold();
        let next = join(&queue, Mode::Exclusive, WaitMode::Waits);
        let other = Arc::clone(&ending);
        let thread = thread::spawn(move || other.lose("gone"));
        let closed = ending.close().is_ok();
        if closed {
            ending.ticket.ending();
            ending.ticket.leave();
        }
        assert!(block_on(next.admitted()), "the next ticket goes on");
        thread.join().unwrap_or_else(|_| panic!("the other thread"));
        assert_ne!(closed, ending.is_lost(), "released or lost, one of the two");
    });
}
