//! Getting the lock, and saying what is waited for.

use std::convert::Infallible;
use std::time::Duration;

use distributed_lock::prelude::*;
use distributed_lock::{
    DynHandle, DynLock, DynLockProvider, DynReaderWriterLock, DynSemaphore, Holder, Mode,
};
use tokio::time::Instant;

use crate::args::{RunArgs, WaitMode};
use crate::contact::{Contact, Pauses};
use crate::exit::{self, Failure};
use crate::say::say;
use crate::service::Service;

/// A wait shorter than this is not worth a line.
const QUIET_AT_FIRST: Duration = Duration::from_millis(200);
/// When the holder is looked up again for the first time: the wait may have the only connection until then.
const LOOK_AGAIN_FIRST: Duration = Duration::from_secs(5);
/// How often it is looked up after that.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How often the line is repeated for the same holder.
const REPEAT: Duration = Duration::from_secs(30);

/// The time in which the lock has to be acquired, the connecting included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    mode: WaitMode,
    started: Instant,
}

impl Limit {
    pub(crate) fn starting_now(args: &RunArgs) -> Self {
        Self { mode: args.wait_mode(), started: Instant::now() }
    }

    /// What is left of a bounded wait.
    fn left(self) -> Option<Duration> {
        match self.mode {
            WaitMode::Until(limit) => Some(limit.saturating_sub(self.started.elapsed())),
            WaitMode::Try | WaitMode::Forever => None,
        }
    }

    /// Calls `attempt` until it succeeds, for as long as the wait lasts and the service does not answer or
    /// refuses for the moment. An unbounded wait ends if a service that was not reached yet stays silent.
    pub(crate) async fn retry<T>(
        self,
        args: &RunArgs,
        service: &Service,
        mut contact: Contact,
        attempt: impl AsyncFn(Option<Duration>) -> LockResult<T>,
    ) -> LockResult<T> {
        let mut reported = args.quiet;
        let mut pauses = Pauses::default();
        loop {
            let error = match attempt(self.left()).await {
                Err(error) if error.is_retryable() => error,
                result => return result,
            };
            contact.note(&error);
            let may_go_on = match self.mode {
                WaitMode::Try => false,
                WaitMode::Until(limit) => self.started.elapsed() < limit,
                WaitMode::Forever => contact.may_be_there(&error, self.started),
            };
            if !may_go_on {
                return Err(error);
            }
            if !std::mem::replace(&mut reported, true) {
                let reason = exit::chain(&error);
                say(format!("{} is not available, trying again: {reason}", service.shown));
            }
            let pause = pauses.after(&error);
            tokio::time::sleep(self.left().map_or(pause, |left| pause.min(left))).await;
        }
    }
}

/// Acquires the lock, waiting as the user asked.
///
/// Dropping the future leaves nothing behind, as acquiring itself does.
pub(crate) async fn acquire(
    args: &RunArgs,
    service: &Service,
    provider: &DynLockProvider,
    limit: Limit,
) -> Result<DynHandle, Failure> {
    let lock = Lock::of(args, provider);
    let waited = async |left| {
        if args.quiet {
            return lock.acquire(left).await;
        }
        // The holder is looked up while nothing waits: a wait may need the only connection.
        if let Some(handle) = lock.try_acquire().await? {
            return Ok(handle);
        }
        let seen = Seen::now(args, provider).await;
        tokio::select! {
            biased;
            acquired = lock.acquire(limit.left()) => acquired,
            never = report_while_waiting(args, service, provider, seen) => match never {},
        }
    };
    let acquired = match args.wait_mode() {
        WaitMode::Try => lock.try_acquire().await,
        WaitMode::Until(_) | WaitMode::Forever => {
            match limit.retry(args, service, Contact::Answered, waited).await {
                Err(LockError::Timeout(_)) => Ok(None),
                other => other.map(Some),
            }
        }
    };
    match acquired {
        Ok(Some(handle)) => Ok(handle),
        Ok(None) => Err(conflict(args, service, provider).await),
        Err(error) => {
            let doing = format!("cannot acquire {:?} at {}", args.name, service.shown);
            Err(Failure::lock(doing, &error))
        }
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

async fn conflict(args: &RunArgs, service: &Service, provider: &DynLockProvider) -> Failure {
    if args.quiet {
        return Failure::silent(args.conflict_exit_code);
    }
    let waited = match args.wait_mode() {
        WaitMode::Until(limit) => format!("waited {limit:?} for"),
        WaitMode::Try | WaitMode::Forever => "cannot get".to_owned(),
    };
    let seen = Seen::now(args, provider).await;
    let message = format!("{waited} {:?}, {}; try again later", args.name, seen.describe(service));
    Failure::new(args.conflict_exit_code, message)
}

async fn report_while_waiting(
    args: &RunArgs,
    service: &Service,
    provider: &DynLockProvider,
    mut seen: Seen,
) -> Infallible {
    tokio::time::sleep(QUIET_AT_FIRST).await;
    let mut reported: Option<Seen> = None;
    let mut at = Instant::now();
    let mut pause = LOOK_AGAIN_FIRST;
    loop {
        seen = reported.as_ref().map_or(seen.clone(), |before| seen.after(before));
        if reported.as_ref() != Some(&seen) || at.elapsed() >= REPEAT {
            let back = matches!(reported, Some(Seen::Silent { .. }))
                && !matches!(seen, Seen::Silent { .. });
            if back {
                say(format!("{} answers again", service.shown));
            }
            say(format!("waiting for {:?}, {}", args.name, seen.describe(service)));
            (reported, at) = (Some(seen), Instant::now());
        }
        tokio::time::sleep(std::mem::replace(&mut pause, LOOK_AGAIN)).await;
        seen = Seen::now(args, provider).await;
    }
}

/// Why the lock is waited for, as far as the lock service says.
#[derive(Debug, Clone)]
enum Seen {
    Held(Option<Holder>),
    /// It does not answer.
    Silent {
        since: Instant,
        reason: String,
    },
}

impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Held(one), Self::Held(other)) => one == other,
            (Self::Silent { since: one, .. }, Self::Silent { since: other, .. }) => one == other,
            _ => false,
        }
    }
}

impl Seen {
    async fn now(args: &RunArgs, provider: &DynLockProvider) -> Self {
        let since = Instant::now();
        match provider.holder(&args.name, args.mode()).await {
            Ok(holder) => Self::Held(holder),
            Err(error) if error.is_retryable() => {
                Self::Silent { since, reason: exit::chain(&error) }
            }
            // Not knowing is no error for a process that waits anyway.
            Err(_) => Self::Held(None),
        }
    }

    /// A silence goes on from when it began.
    fn after(self, before: &Self) -> Self {
        match (self, before) {
            (Self::Silent { reason, .. }, Self::Silent { since, .. }) => {
                Self::Silent { since: *since, reason }
            }
            (seen, _) => seen,
        }
    }

    fn describe(&self, service: &Service) -> String {
        match self {
            Self::Held(Some(holder)) => format!("held by {holder}"),
            Self::Held(None) => "held by others".to_owned(),
            Self::Silent { since, reason } => {
                let seconds = since.elapsed().as_secs();
                format!("but {} has not answered for {seconds}s: {reason}", service.shown)
            }
        }
    }
}
