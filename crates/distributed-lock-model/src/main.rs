//! Checks every variant and writes the table; `cargo xtask model` runs it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for developers")]

use std::process::ExitCode;

use distributed_lock_model::{
    Bounds, GuardStart, GuardVariant, Report, Variant, check, check_guard, table,
};

const HEAD: &str = "\
# RedLock, model-checked

`cargo xtask model` makes this page, in some minutes; `cargo test -p distributed-lock-model` checks the smaller bounds.

Clients drive the machines of `distributed_lock_redis::redlock`, the product's own code, against modelled servers. Requests
on one link keep their order; a link that is reported closed may deliver later what was sent on it; requests are answered
too late or never, and replies are lost; clients give up; servers restart without their data. In every state that can be
reached within the bounds:

- at most one client believes that it holds the lock;
- a client that is done, with nothing of its own on its way, has nothing at any server;
- of two holds that have drawn a token the later has the greater one.

The variants below the product are known mistakes, made in the model and not in the product, and what no lease can stand: a
clock that jumps. Two of them are mistakes that the product had. Each must be found out; the verdict has the length of the
shortest way there.

";

const TAIL: &str = "
## What is modelled

| machine | by the model checker | in the simulated network | by property tests |
|---|---|---|---|
| `Round`, `Timing`, `Tally`, `Quorum` | yes | yes | yes |
| `SentRequests`: which requests may arrive late | yes, with one link left | yes, each request on a link of its own | by unit tests |
| `Renewal` | yes | yes | yes |
| `Drawing` | yes, one holder after the other | yes | yes, readers who draw at the same time |
| `Group` (the restart guard) | yes, in a model of its own | no: a server that restarts stays away for a lease | yes |
| `Contest` | no: it only says when there is another round | yes | yes |
| `QuorumRelease` | yes, until every server has confirmed it where links are left; elsewhere what it commands is sent once | yes | yes |

- Time goes in steps, the same for clients and servers (no drift); a lease is two steps, the model ends after two or three.
- A client has one link to each server. Requests on it arrive in their order, at any time after they were sent, or never.
  Where links are left, the client has a new one from then on, receives nothing more on the old one, and what is on its way
  there may arrive before or after anything on the new one.
- Requests to undo are repeated until they are confirmed, so they are not lost.
- A link is left once at most, and not in the same run as an extension, a restart or a clock that jumps. Readers are modelled
  as owners that do not exclude each other, one client with two rounds.
- Votes that an extension finds missing are asked for as soon as it has succeeded, as the product does.
- In the rows on tokens a holder draws while others ask for the lock; the first server's clock is ahead. A clock that jumps may
  make two holders, and their tokens grow all the same. Where a server loses its counter they do so as long as clocks are
  less apart than the restart guard is long.
- In the rows on the guard every client tells what it has to tell whom it can reach before it asks for a lock, as the product
  does. The two ask the smallest majorities, which share the server that restarts.
- Not modelled: readers beside writers, permits, queues, and the scripts themselves, which run against real servers in the tests of
  `distributed-lock-redis`.
";

fn main() -> ExitCode {
    let mut reports: Vec<Report> = Vec::new();
    let mut add = |report: Report| {
        eprintln!("{}: {} states, {:?}", report.title, report.states, report.violated);
        reports.push(report);
    };
    let small = [
        Bounds::rounds(),
        Bounds::links(),
        Bounds::readers(),
        Bounds::hold(),
        Bounds::tokens(),
        Bounds::tokens_and_restart(),
    ];
    let large = [Bounds::tokens_and_jump(), Bounds::five(), Bounds::everything()];
    for bounds in small.into_iter().chain(large) {
        add(check(Variant::Right, bounds));
    }
    for variant in &Variant::ALL[1..] {
        add(check(*variant, Bounds::telling(*variant)));
    }
    for start in [GuardStart::New, GuardStart::Known] {
        add(check_guard(GuardVariant::Right, start));
    }
    add(check_guard(GuardVariant::NoGuard, GuardStart::Known));
    add(check_guard(GuardVariant::TellingNotAwaited, GuardStart::New));
    print!("{HEAD}{}{TAIL}", table(&reports));
    if reports.iter().all(Report::is_as_it_must_be) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
