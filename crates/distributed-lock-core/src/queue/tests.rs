use std::future::Future;
use std::sync::Arc;

use crate::mode::Mode;
use crate::queue::{LocalQueue, Ticket, WaitMode};

type Queue = Arc<LocalQueue<&'static str>>;

fn exclusive(queue: &Queue, patience: WaitMode) -> Ticket<&'static str> {
    queue.join("key", Mode::Exclusive, patience)
}

fn shared(queue: &Queue, patience: WaitMode) -> Ticket<&'static str> {
    queue.join("key", Mode::Shared, patience)
}

fn permit(queue: &Queue, patience: WaitMode) -> Ticket<&'static str> {
    queue.join("key", Mode::Permit { max: 2 }, patience)
}

#[test]
fn a_free_key_admits_at_once_and_leaves_no_line_behind() {
    let queue = LocalQueue::new();
    let ticket = exclusive(&queue, WaitMode::Tries);
    assert_eq!(ticket.decision(), Some(true));
    ticket.held();
    ticket.ending();
    ticket.leave();
    ticket.leave();
    assert!(queue.is_empty());
}

#[test]
fn a_try_is_refused_by_a_holder_but_waits_for_what_is_open() {
    let queue = LocalQueue::new();
    let first = exclusive(&queue, WaitMode::Waits);
    let during_request = exclusive(&queue, WaitMode::Tries);
    assert_eq!(during_request.decision(), None);
    first.held();
    assert_eq!(during_request.decision(), Some(false));

    first.ending();
    let during_release = exclusive(&queue, WaitMode::Tries);
    assert_eq!(during_release.decision(), None);
    first.leave();
    assert_eq!(during_release.decision(), Some(true));
}

#[test]
fn a_try_is_refused_by_an_earlier_waiter() {
    let queue = LocalQueue::new();
    let waiter = exclusive(&queue, WaitMode::Waits);
    assert!(waiter.wait_at_server());
    assert_eq!(exclusive(&queue, WaitMode::Tries).decision(), Some(false));
    assert_eq!(shared(&queue, WaitMode::Tries).decision(), Some(false));
    drop(waiter);
    assert_eq!(exclusive(&queue, WaitMode::Tries).decision(), Some(true));
}

#[test]
fn waiters_are_admitted_in_order_of_arrival() {
    let queue = LocalQueue::new();
    let first = exclusive(&queue, WaitMode::Waits);
    first.held();
    let others: Vec<_> = (0..3).map(|_| exclusive(&queue, WaitMode::Waits)).collect();
    drop(first);
    for (index, ticket) in others.into_iter().enumerate() {
        assert_eq!(ticket.decision(), Some(true), "ticket {index}");
        ticket.held();
    }
}

#[test]
fn one_that_gives_up_frees_those_behind() {
    let queue = LocalQueue::new();
    let reader = shared(&queue, WaitMode::Waits);
    reader.held();
    let writer = exclusive(&queue, WaitMode::Waits);
    let behind = shared(&queue, WaitMode::Waits);
    assert_eq!(behind.decision(), None, "a waiting writer is not overtaken");
    drop(writer);
    assert_eq!(behind.decision(), Some(true));
}

#[test]
fn newcomers_that_do_not_exclude_each_other_try_together_and_wait_in_order() {
    let queue = LocalQueue::new();
    let (one, other) = (shared(&queue, WaitMode::Waits), shared(&queue, WaitMode::Waits));
    assert_eq!((one.decision(), other.decision()), (Some(true), Some(true)));
    // The later one hears first that it was refused, and does not overtake.
    assert!(!other.wait_at_server());
    assert_eq!(other.decision(), None);
    assert!(one.wait_at_server());
    one.held();
    assert_eq!(other.decision(), Some(true));
}

#[test]
fn those_that_wait_for_permits_ask_in_order() {
    let queue = LocalQueue::new();
    let (one, other) = (permit(&queue, WaitMode::Waits), permit(&queue, WaitMode::Waits));
    assert_eq!((one.decision(), other.decision()), (Some(true), None));
    one.held();
    assert_eq!(other.decision(), Some(true));
}

#[test]
fn those_that_queued_are_admitted_one_by_one() {
    let queue = LocalQueue::new();
    let writer = exclusive(&queue, WaitMode::Waits);
    writer.held();
    let readers: Vec<_> = (0..3).map(|_| shared(&queue, WaitMode::Waits)).collect();
    drop(writer);
    let admitted = readers.iter().filter(|reader| reader.decision() == Some(true)).count();
    assert_eq!(admitted, 1);
    readers[0].held();
    assert_eq!(readers[1].decision(), Some(true));
}

#[test]
fn a_try_for_a_permit_waits_for_a_release_that_began_before_it() {
    let queue = LocalQueue::new();
    let (one, other) = (permit(&queue, WaitMode::Tries), permit(&queue, WaitMode::Tries));
    one.held();
    other.held();
    one.ending();
    let third = permit(&queue, WaitMode::Tries);
    assert_eq!(third.decision(), None);
    other.ending();
    drop(one);
    assert_eq!(third.decision(), Some(true), "a later release does not hold it up");
}

#[test]
fn a_waiter_that_stops_waiting_is_answered() {
    let queue = LocalQueue::new();
    let holder = exclusive(&queue, WaitMode::Waits);
    holder.held();
    let waiter = exclusive(&queue, WaitMode::Waits);
    assert_eq!(waiter.decision(), None);
    waiter.stop_waiting();
    assert_eq!(waiter.decision(), Some(false));
}

#[test]
fn five_hundred_in_line_leave_in_any_order() {
    let queue = LocalQueue::new();
    let holder = exclusive(&queue, WaitMode::Waits);
    holder.held();
    let mut tickets: Vec<_> = (0..500).map(|_| exclusive(&queue, WaitMode::Waits)).collect();
    while tickets.len() > 1 {
        tickets.swap_remove(tickets.len() / 3);
    }
    drop(holder);
    assert_eq!(tickets[0].decision(), Some(true));
    drop(tickets);
    assert!(queue.is_empty());
}

#[test]
fn a_refused_try_does_not_hide_who_can_go_on() {
    let queue = LocalQueue::new();
    let reader = shared(&queue, WaitMode::Waits);
    let writer_tries = exclusive(&queue, WaitMode::Tries);
    let second_reader = shared(&queue, WaitMode::Waits);
    assert_eq!((writer_tries.decision(), second_reader.decision()), (None, None));
    reader.held();
    assert_eq!((writer_tries.decision(), second_reader.decision()), (Some(false), Some(true)));
}

#[test]
fn waiters_that_give_up_together_cost_little_each() {
    let cost_of = |waiters: u32| {
        let queue = LocalQueue::new();
        let holder = exclusive(&queue, WaitMode::Waits);
        holder.held();
        let tickets: Vec<_> = (0..waiters).map(|_| exclusive(&queue, WaitMode::Waits)).collect();
        let began = tokio::time::Instant::now();
        for ticket in &tickets {
            ticket.stop_waiting();
            assert_eq!(ticket.decision(), Some(false));
        }
        drop(tickets);
        began.elapsed() / waiters
    };
    let few = (0..3).map(|_| cost_of(1_000)).min().unwrap();
    let many = (0..3).map(|_| cost_of(30_000)).min().unwrap();
    // Quadratic would be thirty times as much.
    assert!(many <= 8 * few, "{many:?} each of 30,000, {few:?} each of 1,000");
}

#[test]
fn a_refusal_by_the_backend_answers_those_that_only_tried_by_then() {
    let queue = LocalQueue::new();
    let first = exclusive(&queue, WaitMode::Waits);
    let behind: Vec<_> = (0..3).map(|_| exclusive(&queue, WaitMode::Waits)).collect();
    behind.iter().for_each(Ticket::stop_waiting);
    let began = first.begin_request();
    let later = exclusive(&queue, WaitMode::Tries);
    first.refused(began);
    assert!(behind.iter().all(|ticket| ticket.decision() == Some(false)));
    assert_eq!(later.decision(), None, "it came after the request");
    first.leave();
    assert_eq!(later.decision(), Some(true));
}

#[test]
fn wakers_run_when_the_queue_is_unlocked() {
    struct Rejoins(std::sync::Mutex<Option<Queue>>);
    impl std::task::Wake for Rejoins {
        fn wake(self: Arc<Self>) {
            // Locks what is locked while tickets change their stage.
            if let Some(queue) = self.0.lock().unwrap().take() {
                drop(exclusive(&queue, WaitMode::Tries));
            }
        }
    }
    let queue = LocalQueue::new();
    let holder = exclusive(&queue, WaitMode::Waits);
    holder.held();
    let waiting = exclusive(&queue, WaitMode::Waits);
    let waker = Arc::new(Rejoins(std::sync::Mutex::new(Some(Arc::clone(&queue))))).into();
    let mut admitted = std::pin::pin!(waiting.admitted());
    let polled = admitted.as_mut().poll(&mut std::task::Context::from_waker(&waker));
    assert!(polled.is_pending());
    holder.leave();
    assert_eq!(waiting.decision(), Some(true));
}
