//! `dlock run`: connect, acquire, run the command, release.

use std::ffi::OsString;

use distributed_lock::DynHandle;
use distributed_lock::prelude::*;

use crate::acquire::acquire;
use crate::args::RunArgs;
use crate::command::{Command, Plan, spawn};
use crate::events::Events;
use crate::exit::{self, End, Failure, RAN_TOO_LONG, UNAVAILABLE};
use crate::say::say;
use crate::service::{self, Service};
use crate::supervise::{Ending, supervise};

const NAME_VARIABLE: &str = "DISTRIBUTED_LOCK_NAME";
const TOKEN_VARIABLE: &str = "DISTRIBUTED_LOCK_TOKEN";

/// Runs the command under the lock and returns how `dlock` ends.
pub(crate) async fn run(args: &RunArgs) -> Result<End, Failure> {
    let mut events = Events::catch()?;
    let service = service::find(args)?;
    let provider = events.interrupting(distributed_lock::connect(&service.url)).await?;
    let provider =
        provider.map_err(|error| Failure::lock("cannot use the lock service", &error))?;
    let outcome = run_with(args, &service, &provider, &mut events).await;
    // What was dropped on the way, a lock or a position in the queue, is given back before we go. A
    // signal ends that: the lock service frees by itself what is left then.
    let left = events.interrupting(provider.shutdown()).await.unwrap_or_default();
    for (name, error) in left {
        say(format!("cannot release {name:?}: {}", exit::chain(&error)));
    }
    outcome
}

async fn run_with(
    args: &RunArgs,
    service: &Service,
    provider: &distributed_lock::DynLockProvider,
    events: &mut Events,
) -> Result<End, Failure> {
    let handle = events.interrupting(acquire(args, provider)).await??;
    let plan = events.interrupting(plan(args, service, &handle)).await??;
    let command = Command::start(plan).await?;
    events.await_child(command.child());
    let ending = supervise(command, args, &handle, events).await;
    let released = handle.release().await;
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
