//! `dlock run`: connect, acquire, run the command, release.

use distributed_lock::prelude::*;
use distributed_lock::{DynHandle, DynLockProvider};

use crate::acquire::acquire;
use crate::args::RunArgs;
use crate::child::Child;
use crate::exit::{self, Failure, LOST, UNAVAILABLE};
use crate::say::say;
use crate::service;
use crate::signals::{Signals, WHILE_RUNNING};
use crate::supervise::{Ending, supervise};

/// Runs the command under the lock and returns the exit status.
pub(crate) async fn run(args: &RunArgs) -> Result<u8, Failure> {
    let url = service::url(&args.url)?;
    let mut signals = Signals::catch()?;
    let provider = signals.interrupting(distributed_lock::connect(&url)).await?;
    let provider =
        provider.map_err(|error| Failure::lock("cannot use the lock service", &error))?;
    let outcome = run_with(args, &provider, &mut signals).await;
    // What was dropped on the way, a lock or a place in the queue, is given back before we go. A
    // signal ends that: the lock service frees by itself what is left then.
    let left = signals.interrupting(provider.shutdown()).await.unwrap_or_default();
    for (name, error) in left {
        say(format!("cannot release {name:?}: {}", exit::chain(&error)));
    }
    outcome
}

async fn run_with(
    args: &RunArgs,
    provider: &DynLockProvider,
    signals: &mut Signals,
) -> Result<u8, Failure> {
    let handle = signals.interrupting(acquire(args, provider)).await??;
    let child = signals.interrupting(prepare(&handle)).await??;
    signals.also(&WHILE_RUNNING)?;
    let child = child.start(args)?;
    let ending = supervise(child, &args.name, &handle, signals).await;
    let released = handle.release().await;
    let ending = ending.map_err(|error| {
        Failure::new(UNAVAILABLE, "cannot read the command's status").because(&error)
    })?;
    match (ending, released) {
        (Ending::Lost, _) => Err(Failure::silent(LOST)),
        (Ending::Own(_), Err(error @ LockError::LockLost(_))) => {
            let told = format!("{:?} was not held to the command's end", args.name);
            Err(Failure::new(LOST, told).because(&error))
        }
        (Ending::Own(status), released) => {
            if let Err(error) = released {
                say(format!("cannot release {:?}: {}", args.name, exit::chain(&error)));
            }
            Ok(exit::of_child(status))
        }
    }
}

/// What a command gets from its lock.
struct Inheritance {
    token: Option<distributed_lock::FencingToken>,
    keep_alive: Option<std::os::fd::OwnedFd>,
}

async fn prepare(handle: &DynHandle) -> Result<Inheritance, Failure> {
    let unavailable = |what: &str, error: &LockError| {
        Failure::new(UNAVAILABLE, format!("{what}, so the command is not run")).because(error)
    };
    let token = match handle.fencing_token().await {
        Ok(token) => Some(token),
        Err(LockError::Unsupported(_)) => None,
        Err(error) => return Err(unavailable("cannot get a fencing token", &error)),
    };
    let keep_alive = handle
        .keep_alive_fd()
        .map_err(|error| unavailable("cannot pass the lock on to the command", &error))?;
    Ok(Inheritance { token, keep_alive })
}

impl Inheritance {
    fn start(self, args: &RunArgs) -> Result<Child, Failure> {
        Child::spawn(&args.command, &args.name, self.token, self.keep_alive)
    }
}
