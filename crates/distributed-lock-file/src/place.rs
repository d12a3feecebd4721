//! What a waiter has, and the three ways to go on from there.
//!
//! - *Exclusive*: the main file is locked exclusively, and that is all while nobody is in the way. A
//!   writer that waits locks the turnstile exclusively too, until it has the main file.
//! - *Shared*: the turnstile is locked shared, then the main file shared, then the turnstile is let
//!   go: readers that overlap cannot keep out a writer that waits. A writer that waits and does not run
//!   keeps them out for [`STUCK_AFTER`].
//! - *Permit*: one of the slots is locked exclusively, whichever is free.
//!
//! A waiter opens each file once and tries again with what it has open: opening and closing would
//! wake all others who wait, and they would wake it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::time::Duration;

use distributed_lock_core::Mode;
use distributed_lock_core::driver::LossReporter;

use crate::flock::{LockedFile, ShareMode};
use crate::key::FileKey;
use crate::open::{Inode, OpenFile, open_quietly};
use crate::options::FileOptions;
use crate::turnstile::Turnstile;
use crate::watch::{Closing, WaitedFile, Watch};

/// How often a waiter looks although nothing woke it: a program that unlocks a file without closing
/// it raises no event.
pub(crate) const FALLBACK_PERIOD: Duration = Duration::from_secs(1);

/// How long the holder of a turnstile may show no progress: it tries once in a fallback period.
const STUCK_AFTER: Duration = Duration::from_secs(3);

/// What is needed to lock and watch files.
#[derive(Clone, Copy)]
pub(crate) struct FileContext<'a> {
    pub(crate) watch: &'a Watch,
    pub(crate) options: &'a FileOptions,
    pub(crate) loss: &'a LossReporter,
}

/// What an attempt has open, and what it waits for.
#[derive(Debug, Default)]
pub struct FilePlace {
    // Dropped in this order: closing the files is an event that this waiter need not hear.
    watch: Option<Watched>,
    /// The main file, or the bell of a semaphore.
    open: Option<OpenFile>,
    turnstile: Option<Turnstile>,
    waits: bool,
    blocked_by_turnstile: bool,
}

#[derive(Debug)]
struct Watched {
    inode: Inode,
    file: WaitedFile,
}

impl FilePlace {
    pub(crate) fn try_exclusive(
        &mut self,
        key: &FileKey,
        context: FileContext<'_>,
    ) -> io::Result<Option<LockedFile>> {
        if self.waits {
            self.enter_turnstile(key, ShareMode::Exclusive, context)?;
        }
        self.lock_main(key, ShareMode::Exclusive, context)
    }

    pub(crate) fn try_shared(
        &mut self,
        key: &FileKey,
        context: FileContext<'_>,
    ) -> io::Result<Option<LockedFile>> {
        if !self.enter_turnstile(key, ShareMode::Shared, context)? {
            return Ok(None);
        }
        let locked = self.lock_main(key, ShareMode::Shared, context)?;
        if let Some(turnstile) = &mut self.turnstile {
            turnstile.leave()?;
        }
        Ok(locked)
    }

    /// Tries the slots from a random one on, so that callers do not meet at the first.
    pub(crate) async fn try_permit(
        &mut self,
        key: &FileKey,
        max: u32,
        context: FileContext<'_>,
    ) -> io::Result<Option<LockedFile>> {
        let start = RandomState::new().build_hasher().finish();
        for offset in 0..u64::from(max) {
            let slot = (start.wrapping_add(offset)) % u64::from(max);
            let path = key.slot(u32::try_from(slot).unwrap_or(0));
            let FileContext { watch, options, loss } = context;
            let locked =
                LockedFile::lock(&path, ShareMode::Exclusive, &mut None, (watch, options, loss))?;
            if locked.is_some() {
                return Ok(locked);
            }
            // Thousands of slots must not hold up the runtime.
            tokio::task::consume_budget().await;
        }
        Ok(None)
    }

    /// Completes when it is worth trying again: at once after it got ready to wait, because what
    /// happened before is seen only by another try; later with each change of what is in the way.
    pub(crate) async fn wait(
        &mut self,
        key: &FileKey,
        mode: Mode,
        context: FileContext<'_>,
    ) -> io::Result<()> {
        self.waits = true;
        if self.turnstile.as_ref().map(Turnstile::is_there).transpose()? == Some(false) {
            // It was removed; others will look for a new one, and so do we.
            self.turnstile = None;
            self.blocked_by_turnstile = false;
        }
        if mode == Mode::Exclusive && self.turnstile.is_none() {
            self.enter_turnstile(key, ShareMode::Exclusive, context)?;
        }
        let (path, open, closing) = match mode {
            Mode::Permit { .. } => {
                if !self.bell_is_there(key)? {
                    self.open = Some(open_quietly(key.first(), context.options)?);
                }
                (key.first(), self.open.as_ref(), Closing::Written)
            }
            _ if self.blocked_by_turnstile => {
                let turnstile = self.turnstile.as_ref().map(Turnstile::file);
                (key.turnstile(), turnstile, Closing::Written)
            }
            _ => (key.first(), self.open.as_ref(), Closing::Any),
        };
        let Some(open) = open else { return Ok(()) };
        match &mut self.watch {
            Some(Watched { inode, file }) if *inode == open.inode => file.changed().await,
            watch => match context.watch.file(path, &open.file, closing) {
                Some(file) => *watch = Some(Watched { inode: open.inode, file }),
                // The kernel cannot report it: until the fallback period is over, when it is asked
                // again.
                None => std::future::pending().await,
            },
        }
        Ok(())
    }

    fn bell_is_there(&self, key: &FileKey) -> io::Result<bool> {
        self.open.as_ref().map_or(Ok(false), |bell| bell.inode.is_at(key.first()))
    }

    fn lock_main(
        &mut self,
        key: &FileKey,
        share: ShareMode,
        FileContext { watch, options, loss }: FileContext<'_>,
    ) -> io::Result<Option<LockedFile>> {
        LockedFile::lock(key.first(), share, &mut self.open, (watch, options, loss))
    }

    /// Passes the turnstile, or is kept out by it. It stays open either way, and locked if nobody
    /// excludes that.
    fn enter_turnstile(
        &mut self,
        key: &FileKey,
        share: ShareMode,
        context: FileContext<'_>,
    ) -> io::Result<bool> {
        let mut turnstile = match self.turnstile.take() {
            Some(turnstile) => turnstile,
            None => Turnstile::open(key.turnstile(), context.options)?,
        };
        let mut passed = turnstile.enter(share)?;
        if !passed && turnstile.is_stuck(share, STUCK_AFTER) {
            turnstile = match turnstile.remove(context.options) {
                Ok(()) => Turnstile::open(key.turnstile(), context.options)?,
                Err(turnstile) => turnstile,
            };
            // One that may not be removed is passed by readers; a writer tries the main file anyway.
            passed = turnstile.enter(share)? || turnstile.is_stuck(share, STUCK_AFTER);
        }
        self.blocked_by_turnstile = !passed;
        self.turnstile = Some(turnstile);
        Ok(passed)
    }
}
