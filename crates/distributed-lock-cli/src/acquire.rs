//! Getting the lock, and telling the user whom we wait for.

use std::convert::Infallible;
use std::time::Duration;

use distributed_lock::prelude::*;
use distributed_lock::{
    DynHandle, DynLock, DynLockProvider, DynReaderWriterLock, DynSemaphore, Holder, Mode,
};

use crate::args::{RunArgs, WaitMode};
use crate::exit::Failure;
use crate::say::say;

/// A wait shorter than this is not worth a line.
const QUIET_AT_FIRST: Duration = Duration::from_millis(200);
/// How often the holder is looked up while waiting.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How often the line is repeated for the same holder.
const REPEAT: Duration = Duration::from_secs(30);

/// Acquires the lock as patiently as the user asked.
///
/// Dropping the future leaves nothing behind, as acquiring itself does.
pub(crate) async fn acquire(
    args: &RunArgs,
    provider: &DynLockProvider,
) -> Result<DynHandle, Failure> {
    let lock = Lock::of(args, provider);
    let waited = async |limit| {
        tokio::select! {
            biased;
            acquired = lock.acquire(limit) => acquired,
            never = tell_while_waiting(args, provider) => match never {},
        }
    };
    let acquired = match args.wait_mode() {
        WaitMode::Try => lock.try_acquire().await,
        WaitMode::Until(limit) => match waited(Some(limit)).await {
            Err(LockError::Timeout(_)) => Ok(None),
            other => other.map(Some),
        },
        WaitMode::Forever => waited(None).await.map(Some),
    };
    match acquired {
        Ok(Some(handle)) => Ok(handle),
        Ok(None) => Err(conflict(args, provider).await),
        Err(error) => Err(Failure::lock(format!("cannot acquire {:?}", args.name), &error)),
    }
}

/// The lock in the mode that the user asked for.
enum Lock {
    Alone(DynLock),
    Reader(DynReaderWriterLock),
    Permit(DynSemaphore),
}

impl Lock {
    fn of(args: &RunArgs, provider: &DynLockProvider) -> Self {
        match args.mode() {
            Mode::Exclusive => Self::Alone(provider.create_lock(&args.name)),
            Mode::Shared => Self::Reader(provider.create_reader_writer_lock(&args.name)),
            Mode::Permit { max } => Self::Permit(provider.create_semaphore(&args.name, max)),
        }
    }

    async fn acquire(&self, limit: Option<Duration>) -> LockResult<DynHandle> {
        match self {
            Self::Alone(lock) => lock.acquire(limit).await,
            Self::Reader(lock) => lock.acquire_read(limit).await,
            Self::Permit(semaphore) => semaphore.acquire(limit).await,
        }
    }

    async fn try_acquire(&self) -> LockResult<Option<DynHandle>> {
        match self {
            Self::Alone(lock) => lock.try_acquire().await,
            Self::Reader(lock) => lock.try_acquire_read().await,
            Self::Permit(semaphore) => semaphore.try_acquire().await,
        }
    }
}

async fn conflict(args: &RunArgs, provider: &DynLockProvider) -> Failure {
    if args.quiet {
        return Failure::silent(args.conflict_exit_code);
    }
    let told = match args.wait_mode() {
        WaitMode::Until(limit) => format!("waited {limit:?} for"),
        WaitMode::Try | WaitMode::Forever => "cannot get".to_owned(),
    };
    let holder = describe(holder(args, provider).await.as_ref());
    let message = format!("{told} {:?}, held by {holder}; try again later", args.name);
    Failure::new(args.conflict_exit_code, message)
}

async fn tell_while_waiting(args: &RunArgs, provider: &DynLockProvider) -> Infallible {
    if args.quiet {
        return std::future::pending().await;
    }
    tokio::time::sleep(QUIET_AT_FIRST).await;
    let mut told: Option<Option<Holder>> = None;
    let mut since_told = Duration::ZERO;
    loop {
        let holder = holder(args, provider).await;
        if told.as_ref() != Some(&holder) || since_told >= REPEAT {
            say(format!("waiting for {:?}, held by {}", args.name, describe(holder.as_ref())));
            told = Some(holder);
            since_told = Duration::ZERO;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        since_told += LOOK_AGAIN;
    }
}

/// Who holds the lock; not knowing is no error for somebody who waits anyway.
async fn holder(args: &RunArgs, provider: &DynLockProvider) -> Option<Holder> {
    provider.holder(&args.name, args.mode()).await.unwrap_or_default()
}

fn describe(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "others".to_owned(), Holder::to_string)
}
