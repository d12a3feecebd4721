//! `dlock run`: connect, acquire, run the command, release.

use std::ffi::OsString;

use distributed_lock::DynHandle;
use distributed_lock::prelude::*;

use crate::acquire::{Limit, acquire};
use crate::args::{RunArgs, WaitMode};
use crate::command::{Command, Plan, spawn};
use crate::contact::Contact;
use crate::events::Events;
use crate::exit::{self, End, Failure, RAN_TOO_LONG, UNAVAILABLE, USAGE};
use crate::say::say;
use crate::service::{self, NAME_VARIABLE, Service, TOKEN_VARIABLE};
use crate::supervise::{Ending, supervise};
use crate::{nested, warnings};

/// Runs the command under the lock and returns how `dlock` ends.
pub(crate) async fn run(args: &RunArgs) -> Result<End, Failure> {
    let mut events = Events::catch()?;
    warnings::show(args.quiet);
    let service = service::find(args)?;
    if args.verbose {
        say(service.describe());
    }
    if !args.quiet {
        service.doubts().into_iter().for_each(say);
    }
    refuse_to_wait_for_itself(args, &service)?;
    let limit = Limit::starting_now(args);
    let url = service.labelled_url(args);
    let connect = async |_| distributed_lock::connect(&url).await;
    let connecting = limit.retry(args, &service, Contact::None, connect);
    let provider = events.interrupting(connecting).await?.map_err(|error| {
        Failure::lock(format!("cannot use the lock service: {}", service.shown), &error)
    })?;
    let outcome = run_with(args, &service, &provider, limit, &mut events).await;
    // What was dropped on the way, a lock or a position in the queue, is given back before we go. A
    // signal ends that: the lock service frees by itself what is left then.
    let left = events.interrupting(provider.shutdown()).await.unwrap_or_default();
    for (name, error) in left {
        say(format!("cannot release {name:?}: {}", exit::chain(&error)));
    }
    outcome
}

fn refuse_to_wait_for_itself(args: &RunArgs, service: &Service) -> Result<(), Failure> {
    let Some(pid) = nested::conflict(&service.held(&args.name, args.mode())) else {
        return Ok(());
    };
    let message = format!(
        "{:?} at {} is held by the dlock that this one runs under (pid {pid}), which waits for this \
         one: it cannot become free. Use another name, or leave out the inner dlock",
        args.name, service.shown
    );
    let status = match args.wait_mode() {
        WaitMode::Try => args.conflict_exit_code,
        WaitMode::Until(_) | WaitMode::Forever => USAGE,
    };
    Err(Failure::new(status, message))
}

async fn run_with(
    args: &RunArgs,
    service: &Service,
    provider: &distributed_lock::DynLockProvider,
    limit: Limit,
    events: &mut Events,
) -> Result<End, Failure> {
    let acquiring = acquire(args, service, provider, limit);
    let handle = events.interrupting(acquiring).await??;
    let plan = events.interrupting(plan(args, service, &handle)).await??;
    if args.verbose {
        say(format!("holds {:?}", args.name));
    }
    let command = Command::start(plan).await?;
    events.await_child(command.child());
    let ending = supervise(command, args, &handle, events).await;
    let released = handle.release().await;
    if args.verbose && released.is_ok() {
        say(format!("released {:?}", args.name));
    }
    match (ending, released) {
        (Ending::Lost, _) => Err(Failure::silent(args.lost_exit_code)),
        (Ending::Own(..), Err(error @ LockError::LockLost(_))) => {
            let message = format!("{:?} was not held to the command's end", args.name);
            Err(Failure::new(args.lost_exit_code, message).because(&error))
        }
        (ending, released) => {
            if let Err(error) = released {
                say(format!("cannot release {:?}: {}", args.name, exit::chain(&error)));
            }
            Ok(match ending {
                Ending::Own(status, received) => End::of_command(status, &received),
                Ending::TooLong => End::Status(RAN_TOO_LONG),
                Ending::Unwatched | Ending::Lost => End::Status(UNAVAILABLE),
            })
        }
    }
}

/// What is to be run: the command with what it gets from its lock.
async fn plan(args: &RunArgs, service: &Service, handle: &DynHandle) -> Result<Plan, Failure> {
    let unavailable = |what: &str, error: &LockError| {
        Failure::new(UNAVAILABLE, format!("{what}, so the command is not run")).because(error)
    };
    let token = match handle.fencing_token().await {
        Ok(token) => Some(OsString::from(token.to_string())),
        // One that was inherited is another lock's.
        Err(LockError::Unsupported(_)) => None,
        Err(error) => return Err(unavailable("cannot get a fencing token", &error)),
    };
    let keep_alive = match args.close {
        true => None,
        false => handle
            .keep_alive_fd()
            .map_err(|error| unavailable("cannot pass the lock on to the command", &error))?,
    };
    let mut changes =
        vec![(NAME_VARIABLE, Some(OsString::from(&args.name))), (TOKEN_VARIABLE, token)];
    changes.extend(service.environment(args));
    Ok(Plan { words: args.words(), environment: spawn::environment(&changes), keep_alive })
}
