use super::*;

type Queue = Arc<LocalQueue<&'static str>>;

fn exclusive(queue: &Queue, patience: Patience) -> Ticket<&'static str> {
    queue.join("key", Mode::Exclusive, patience)
}

fn shared(queue: &Queue, patience: Patience) -> Ticket<&'static str> {
    queue.join("key", Mode::Shared, patience)
}

fn permit(queue: &Queue, patience: Patience) -> Ticket<&'static str> {
    queue.join("key", Mode::Permit { max: 2 }, patience)
}

#[test]
fn a_free_key_admits_at_once_and_leaves_no_line_behind() {
    let queue = LocalQueue::new();
    let ticket = exclusive(&queue, Patience::Tries);
    assert_eq!(ticket.verdict(), Some(true));
    ticket.held();
    ticket.releasing();
    ticket.leave();
    ticket.leave();
    assert!(lock(&queue.lines).is_empty());
}

#[test]
fn a_try_is_refused_by_a_holder_but_waits_for_what_is_open() {
    let queue = LocalQueue::new();
    let first = exclusive(&queue, Patience::Waits);
    let during_request = exclusive(&queue, Patience::Tries);
    assert_eq!(during_request.verdict(), None);
    first.held();
    assert_eq!(during_request.verdict(), Some(false));

    first.releasing();
    let during_release = exclusive(&queue, Patience::Tries);
    assert_eq!(during_release.verdict(), None);
    first.leave();
    assert_eq!(during_release.verdict(), Some(true));
}

#[test]
fn a_try_is_refused_by_an_earlier_waiter() {
    let queue = LocalQueue::new();
    let waiter = exclusive(&queue, Patience::Waits);
    assert!(waiter.wait_at_server());
    assert_eq!(exclusive(&queue, Patience::Tries).verdict(), Some(false));
    assert_eq!(shared(&queue, Patience::Tries).verdict(), Some(false));
    drop(waiter);
    assert_eq!(exclusive(&queue, Patience::Tries).verdict(), Some(true));
}

#[test]
fn waiters_are_admitted_in_order_of_arrival() {
    let queue = LocalQueue::new();
    let first = exclusive(&queue, Patience::Waits);
    first.held();
    let others: Vec<_> = (0..3).map(|_| exclusive(&queue, Patience::Waits)).collect();
    drop(first);
    for (index, ticket) in others.into_iter().enumerate() {
        assert_eq!(ticket.verdict(), Some(true), "ticket {index}");
        ticket.held();
    }
}

#[test]
fn one_that_gives_up_frees_those_behind() {
    let queue = LocalQueue::new();
    let reader = shared(&queue, Patience::Waits);
    reader.held();
    let writer = exclusive(&queue, Patience::Waits);
    let behind = shared(&queue, Patience::Waits);
    assert_eq!(behind.verdict(), None, "a waiting writer is not overtaken");
    drop(writer);
    assert_eq!(behind.verdict(), Some(true));
}

#[test]
fn newcomers_that_do_not_exclude_each_other_try_together_and_wait_in_order() {
    let queue = LocalQueue::new();
    let (one, other) = (shared(&queue, Patience::Waits), shared(&queue, Patience::Waits));
    assert_eq!((one.verdict(), other.verdict()), (Some(true), Some(true)));
    // The later one hears first that it was refused, and does not overtake.
    assert!(!other.wait_at_server());
    assert_eq!(other.verdict(), None);
    assert!(one.wait_at_server());
    one.held();
    assert_eq!(other.verdict(), Some(true));
}

#[test]
fn those_that_wait_for_permits_ask_in_order() {
    let queue = LocalQueue::new();
    let (one, other) = (permit(&queue, Patience::Waits), permit(&queue, Patience::Waits));
    assert_eq!((one.verdict(), other.verdict()), (Some(true), None));
    one.held();
    assert_eq!(other.verdict(), Some(true));
}

#[test]
fn those_that_queued_are_admitted_one_by_one() {
    let queue = LocalQueue::new();
    let writer = exclusive(&queue, Patience::Waits);
    writer.held();
    let readers: Vec<_> = (0..3).map(|_| shared(&queue, Patience::Waits)).collect();
    drop(writer);
    let admitted = readers.iter().filter(|reader| reader.verdict() == Some(true)).count();
    assert_eq!(admitted, 1);
    readers[0].held();
    assert_eq!(readers[1].verdict(), Some(true));
}

#[test]
fn a_try_for_a_permit_waits_for_a_release_that_began_before_it() {
    let queue = LocalQueue::new();
    let (one, other) = (permit(&queue, Patience::Tries), permit(&queue, Patience::Tries));
    one.held();
    other.held();
    one.releasing();
    let third = permit(&queue, Patience::Tries);
    assert_eq!(third.verdict(), None);
    other.releasing();
    drop(one);
    assert_eq!(third.verdict(), Some(true), "a later release does not hold it up");
}

#[test]
fn a_waiter_that_stops_waiting_is_answered() {
    let queue = LocalQueue::new();
    let holder = exclusive(&queue, Patience::Waits);
    holder.held();
    let waiter = exclusive(&queue, Patience::Waits);
    assert_eq!(waiter.verdict(), None);
    waiter.stop_waiting();
    assert_eq!(waiter.verdict(), Some(false));
}

#[test]
fn five_hundred_in_line_leave_in_any_order() {
    let queue = LocalQueue::new();
    let holder = exclusive(&queue, Patience::Waits);
    holder.held();
    let mut tickets: Vec<_> = (0..500).map(|_| exclusive(&queue, Patience::Waits)).collect();
    while tickets.len() > 1 {
        tickets.swap_remove(tickets.len() / 3);
    }
    drop(holder);
    assert_eq!(tickets[0].verdict(), Some(true));
    drop(tickets);
    assert!(lock(&queue.lines).is_empty());
}

#[test]
fn a_refused_try_does_not_hide_who_can_go_on() {
    let queue = LocalQueue::new();
    let reader = shared(&queue, Patience::Waits);
    let writer_tries = exclusive(&queue, Patience::Tries);
    let second_reader = shared(&queue, Patience::Waits);
    assert_eq!((writer_tries.verdict(), second_reader.verdict()), (None, None));
    reader.held();
    assert_eq!((writer_tries.verdict(), second_reader.verdict()), (Some(false), Some(true)));
}
