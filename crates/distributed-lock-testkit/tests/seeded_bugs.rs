//! What the history checker is worth: for each seeded bug a directed schedule, in which the right
//! driver passes and the wrong one is caught by the invariant that it breaks, and by nothing else.
//!
//! Leases of 200 ms against requests and replies that take 20 to 150 ms, and work that ends just
//! before or past the deadline, on a paused clock: the same history each time, in no time.
#![expect(clippy::print_stdout, reason = "a test tells what it found")]

use std::future::Future;
use std::time::Duration;

use distributed_lock_core::Mode;
use distributed_lock_testkit::bugs::{Bug, Options, Worker, World, rehearse};
use distributed_lock_testkit::faults::{Call, Outcome, When};
use distributed_lock_testkit::history::{Rules, What, check};
use tokio::join;
use tokio::time::{sleep, timeout};

const LEASE: Duration = millis(200);
const OPERATION_TIMEOUT: Duration = millis(300);
const LOCK: &str = "lock";

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn rules() -> Rules {
    Rules {
        operation_timeout: OPERATION_TIMEOUT,
        epsilon: millis(3),
        loss_told_within: LEASE,
        ordered: true,
        ..Rules::default()
    }
}

#[test]
fn a_release_that_ignores_the_token_is_caught() {
    let bug = Bug::ReleaseIgnoresToken;
    catches(bug, Some(LEASE), async |world, delay| {
        let (a, b, c) = (world.worker("a"), world.worker("b"), world.worker("c"));
        is_never_extended(&a);
        a.link.delay(Call::Release, delay, Duration::ZERO);
        // It is sent before the lease ends and arrives after that, while another holds.
        let late = a.run(LOCK, Mode::Exclusive, None, LEASE - millis(10));
        let others = async |worker: &Worker, first| {
            sleep(first).await;
            for _ in 0..3 {
                worker.run(LOCK, Mode::Exclusive, None, millis(55)).await;
            }
        };
        join!(late, others(&b, millis(10)), others(&c, millis(20)));
    });
}

#[test]
fn a_deadline_counted_from_the_reply_is_caught() {
    catches(Bug::DeadlineFromReply, Some(LEASE), async |world, delay| {
        let (a, b) = (world.worker("a"), world.worker("b"));
        is_never_extended(&a);
        a.link.delay(Call::TryAcquire, Duration::ZERO, delay);
        let until_told = a.run(LOCK, Mode::Exclusive, None, LEASE * 2);
        join!(until_told, after(millis(5), b.run(LOCK, Mode::Exclusive, None, millis(30))));
    });
}

#[test]
fn tokens_from_the_clients_clock_are_caught() {
    catches(Bug::TokensFromClientClock, Some(LEASE), async |world, delay| {
        let (a, b) = (world.worker_ahead("a", delay), world.worker("b"));
        a.run(LOCK, Mode::Exclusive, None, millis(5)).await;
        b.run(LOCK, Mode::Exclusive, None, millis(5)).await;
    });
}

#[test]
fn an_attempt_that_is_not_cleaned_up_is_caught() {
    // Without leases, which would hide it after a while.
    catches(Bug::NoCleanUp, None, async |world, delay| {
        let (a, b) = (world.worker("a"), world.worker("b"));
        let outcomes = [
            ("lost", Outcome::ReplyLost),
            ("late", Outcome::SilentAfter),
            ("dropped", Outcome::SilentAfter),
        ];
        for (lock, outcome) in outcomes {
            a.fault("its reply is lost");
            let next = When::Nth(a.script.calls(Call::TryAcquire) + 1);
            a.script.spoil(Call::TryAcquire, next, outcome);
            let patience = if lock == "dropped" { delay } else { OPERATION_TIMEOUT * 2 };
            let attempt = a.run(lock, Mode::Exclusive, None, millis(5));
            if timeout(patience, attempt).await.is_err() {
                a.tell(a.last(), lock, What::Failed { error: "dropped".to_owned() });
            }
        }
        world.is_quiet();
        for (lock, _) in outcomes {
            b.run(lock, Mode::Exclusive, Some(OPERATION_TIMEOUT), millis(5)).await;
        }
    });
}

#[test]
fn a_place_that_is_not_withdrawn_is_caught() {
    catches(Bug::PlaceNotWithdrawn, Some(LEASE), async |world, delay| {
        let (a, b, c) = (world.worker("a"), world.worker("b"), world.worker("c"));
        let gives_up = b.run(LOCK, Mode::Exclusive, Some(delay), Duration::ZERO);
        join!(a.run(LOCK, Mode::Exclusive, None, delay * 2), after(millis(5), gives_up));
        world.is_quiet();
        c.run(LOCK, Mode::Exclusive, Some(LEASE * 2), millis(5)).await;
    });
}

#[test]
fn modes_that_do_not_exclude_each_other_are_caught() {
    catches(Bug::ModesApart, Some(LEASE), async |world, delay| {
        let (a, b) = (world.worker("a"), world.worker("b"));
        let writes = b.run(LOCK, Mode::Exclusive, None, millis(20));
        join!(a.run(LOCK, Mode::Shared, None, delay), after(millis(5), writes));
    });
}

#[test]
fn one_permit_too_many_is_caught() {
    catches(Bug::PermitsOffByOne, Some(LEASE), async |world, delay| {
        let workers = ["a", "b", "c"].map(|name| world.worker(name));
        let [a, b, c] = &workers;
        let run = |worker: &'_ Worker| {
            let worker = worker.clone();
            async move { worker.run(LOCK, Mode::Permit { max: 2 }, None, delay).await }
        };
        join!(run(a), after(millis(1), run(b)), after(millis(2), run(c)));
    });
}

/// Runs a schedule with many delays, with the right driver and the wrong one.
fn catches(bug: Bug, lease: Option<Duration>, schedule: impl AsyncFn(&World, Duration)) {
    let history = |bug, delay| {
        let options = Options { lease, operation_timeout: OPERATION_TIMEOUT };
        rehearse(bug, options, async |world| schedule(world, delay).await)
    };
    let (mut found, mut runs, mut example) = (0, 0, None);
    for delay in (20..=150).step_by(5).map(millis) {
        let right = history(None, delay);
        assert_eq!(check(&right, &rules()), [], "the right driver, with {delay:?}");
        assert_eq!(history(None, delay), right, "not the same history again, with {delay:?}");
        let wrong = history(Some(bug), delay);
        let violations = check(&wrong, &rules());
        runs += 1;
        found += usize::from(!violations.is_empty());
        let others = check(&wrong, &rules().without(bug.breaks()));
        assert_eq!(others, [], "caught by more than {}, with {delay:?}", bug.breaks());
        example = example.or(violations.into_iter().next());
    }
    let example = example.unwrap_or_else(|| panic!("{bug:?} was not caught in {runs} runs"));
    println!("{bug:?}: caught in {found} of {runs} runs by {example}");
}

/// Nothing that it asks to extend its leases reaches the server.
fn is_never_extended(worker: &Worker) {
    worker.fault("its extensions are cut");
    worker.script.spoil(Call::Extend, When::From(1), Outcome::Cut);
}

async fn after<T>(delay: Duration, action: impl Future<Output = T>) -> T {
    sleep(delay).await;
    action.await
}
