//! Locks on files for [`distributed-lock`](https://docs.rs/distributed-lock): `flock(2)` on one file
//! for each name, between processes of one machine, with nothing to install.
//!
//! ```
//! use distributed_lock_core::prelude::*;
//! use distributed_lock_file::FileLockProvider;
//! use std::time::Duration;
//!
//! # let temporary = tempfile::tempdir()?;
//! # let directory = temporary.path();
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # runtime.block_on(async {
//! let provider = FileLockProvider::builder().build(directory)?;
//! let handle = provider.acquire_lock("report", Some(Duration::from_secs(5))).await?;
//! // Only one process at a time gets here.
//! handle.release().await
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it promises
//!
//! - A lock lasts until it is released or its process ends, however that ends. A child process does
//!   not inherit it, unless [`keep_alive_fd`] hands it over.
//! - A waiter is woken by the kernel when the holder lets go, also when the holder is `flock(1)` or
//!   another program. Programs that unlock without closing the file are noticed within a second.
//!   Processes that wait are not served in order; readers that overlap do not keep out a writer.
//! - Programs that remove the lock file when they release it (the .NET library does) are excluded
//!   exactly: after locking, the file must still be the one at its path.
//! - A stranger who removes the file of a held lock, or makes its path lead elsewhere, lets another
//!   holder in. The first is notified within 50 ms, or by the error of its release if that comes sooner;
//!   [fencing tokens] protect a resource in between, nothing else does.
//! - The lock is where the *path* of the directory leads. If that changes, because a directory on it is
//!   moved, removed, mounted over or replaced or a symbolic link is switched, holders are notified
//!   within 50 ms where the kernel reports it and 1.1 s where it does not, and from then on the provider
//!   locks in the new directory. One that is not made anew is an error.
//! - A waiting writer that is stopped keeps readers out for at most 6 s, not for as long as it is stopped.
//! - Waiting and watching need a tokio runtime with its I/O and time drivers enabled.
//!
//! # Files
//!
//! This is a format: other programs can rely on it. For each lock name there is a stem, made by
//! [`name`]; the directory then has
//!
//! | file | is |
//! |---|---|
//! | `<stem>.lock` | the mutex and reader-writer lock: `flock(2)`, exclusive or shared |
//! | `<stem>.turnstile` | locked exclusively by a writer while it waits, which writes the time into it with each try, at least once a second: milliseconds since 1970, 13 decimal digits and a newline; readers lock it shared for a moment on their way in, and stay out if they cannot |
//! | `<stem>.slot0`, `<stem>.slot1`, … | the permits of the semaphore: each holder has one locked exclusively |
//! | `<stem>.bell` | open for writing in every holder of a permit, so that closing it tells those who wait |
//! | `<stem>.token` | the counter of fencing tokens: 20 decimal digits and a newline, changed under its own exclusive `flock` to `max(it + 1, microseconds since 1970)` |
//!
//! They stay after release: each name that was ever locked leaves two or three files, and a semaphore
//! one more for each permit. [`remove_unused`] removes those of names that are not used any more, beside
//! processes that lock. How they are used:
//!
//! - *Mutex, writer*: lock the main file exclusively without waiting; then it must still be the one at
//!   its path, or start again. If it is locked, lock the turnstile exclusively, keep it, and wait for
//!   somebody to close the main file; let go of the turnstile once the main file is locked.
//! - *Reader*: lock the turnstile shared, then the main file shared, then unlock the turnstile. If
//!   either is locked, wait for somebody to close it.
//! - *A turnstile whose holder does not run*: a reader that is kept out by one with a time that is three
//!   seconds old, and anybody that is kept out by one with the same time for three seconds, removes the
//!   file and goes on with a new one. It is there against starvation; exclusion is the main file's.
//! - *Semaphore of `n`*: lock any of the slots 0 to `n - 1` exclusively. If all are locked, wait for
//!   somebody who had the bell open for writing to close it.
//! - *Release*: unlock, then close.
//!
//! The lock file, or slot, holds one line of 256 bytes, for people who wait: `since=` (milliseconds since
//! 1970), ` pid=…`, ` host=…`, ` user=…`, ` command=…` (the program's name) and, if there is one, ` label=…`
//! of the process that locked it last; spaces and a newline. Programs may add fields before the label. It stays after release, and other programs write none: whether the file is locked, only
//! `flock` says.
//!
//! A counter that a crash has left empty, torn or full of NULs goes on from the clock. One with anything
//! else in it is an error that names the file.
//!
//! `flock(1)` of util-linux on the same file excludes and is excluded:
//! `flock /dir/<stem>.lock command`, with `-s` beside our readers.
//!
//! # Who must be trusted
//!
//! Everybody who can write to the lock directory, or to a directory above it, can let two holders in;
//! [`build`] refuses such directories or warns of them. Nobody can make a process write outside: links
//! are not followed to lock files, and a symbolic link of another user on the path may only lead to a
//! directory of that user. Nobody can make it wait by what is at a file's path: FIFOs, devices and the
//! like are errors.
//!
//! # Platforms
//!
//! Linux. On macOS, FreeBSD and other Unix systems the same code polls once a second instead of being
//! woken.
//! Elsewhere every provider is [`Unsupported`](distributed_lock_core::error::LockError::Unsupported).
//!
//! [`build`]: FileLockProviderBuilder::build
//! [`remove_unused`]: FileLockProviderBuilder::remove_unused
//! [`keep_alive_fd`]: distributed_lock_core::traits::LockHandle::keep_alive_fd
//! [fencing tokens]: distributed_lock_core::traits::LockHandle::fencing_token

mod builder;
#[cfg(unix)]
mod clock;
#[cfg(unix)]
mod counter;
#[cfg(unix)]
mod create;
#[cfg(unix)]
mod directory;
#[cfg_attr(not(unix), path = "unsupported.rs")]
mod driver;
#[cfg(unix)]
mod failure;
#[cfg(unix)]
mod flock;
#[cfg(unix)]
mod holder;
#[cfg(unix)]
mod key;
pub mod name;
#[cfg(unix)]
mod open;
mod options;
#[cfg(unix)]
mod place;
#[cfg(unix)]
mod record;
#[cfg(unix)]
mod route;
#[cfg(unix)]
mod trust;
#[cfg(unix)]
mod turnstile;
mod types;
#[cfg(test)]
mod unsupported;
#[cfg(unix)]
mod unused;
#[cfg(unix)]
mod watch;

pub use builder::FileLockProviderBuilder;
pub use driver::FileDriver;
pub use types::{
    FileDistributedLock, FileDistributedReaderWriterLock, FileDistributedSemaphore, FileLockHandle,
    FileLockProvider, FileReadLockHandle, FileSemaphoreHandle, FileWriteLockHandle,
};
