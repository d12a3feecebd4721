//! What a waiter has, and the three ways to go on from there.
//!
//! - *Exclusive*: the main file is locked exclusively, and that is all while nobody is in the way. A
//!   writer that waits locks the turnstile exclusively too, until it has the main file.
//! - *Shared*: the turnstile is locked shared, then the main file shared, then the turnstile is let
//!   go: readers that overlap cannot keep out a writer that waits.
//! - *Permit*: one of the slots is locked exclusively, whichever is free.
//!
//! A waiter opens each file once and tries again with what it has open: opening and closing would
//! wake all others who wait, and they would wake it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;

use distributed_lock_core::Mode;
use distributed_lock_core::driver::LossReporter;

use crate::flock::{Kind, LockedFile, try_lock};
use crate::key::FileKey;
use crate::open::{Inode, OpenFile, open_lock_file, open_quietly};
use crate::options::FileOptions;
use crate::watch::{Closing, WaitedFile, Watch};

/// What is needed to lock and watch files.
#[derive(Clone, Copy)]
pub(crate) struct Means<'a> {
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
    /// `None`: the kernel does not tell.
    file: Option<WaitedFile>,
}

#[derive(Debug)]
struct Turnstile {
    open: OpenFile,
    is_locked: bool,
}

impl FilePlace {
    pub(crate) fn try_exclusive(
        &mut self,
        key: &FileKey,
        means: Means<'_>,
    ) -> io::Result<Option<LockedFile>> {
        if self.waits {
            self.enter_turnstile(key, Kind::Exclusive, means)?;
        }
        self.lock_main(key, Kind::Exclusive, means)
    }

    pub(crate) fn try_shared(
        &mut self,
        key: &FileKey,
        means: Means<'_>,
    ) -> io::Result<Option<LockedFile>> {
        if !self.enter_turnstile(key, Kind::Shared, means)? {
            return Ok(None);
        }
        let locked = self.lock_main(key, Kind::Shared, means)?;
        if let Some(turnstile) = &mut self.turnstile {
            turnstile.open.file.unlock()?;
            turnstile.is_locked = false;
        }
        Ok(locked)
    }

    /// Tries the slots from a random one on, so that callers do not meet at the first.
    pub(crate) async fn try_permit(
        &mut self,
        key: &FileKey,
        max: u32,
        means: Means<'_>,
    ) -> io::Result<Option<LockedFile>> {
        let start = RandomState::new().build_hasher().finish();
        for offset in 0..u64::from(max) {
            let slot = (start.wrapping_add(offset)) % u64::from(max);
            let path = key.slot(u32::try_from(slot).unwrap_or(0));
            let Means { watch, options, loss } = means;
            let locked =
                LockedFile::lock(&path, Kind::Exclusive, &mut None, (watch, options, loss))?;
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
        means: Means<'_>,
    ) -> io::Result<()> {
        self.waits = true;
        let is_there = |turnstile: &Turnstile| turnstile.open.inode.is_at(key.turnstile());
        if self.turnstile.as_ref().map(is_there).transpose()? == Some(false) {
            // A stranger removed it; others will look for a new one, and so do we.
            self.turnstile = None;
            self.blocked_by_turnstile = false;
        }
        if mode == Mode::Exclusive && self.turnstile.is_none() {
            self.enter_turnstile(key, Kind::Exclusive, means)?;
        }
        let (path, open, closing) = match mode {
            Mode::Permit { .. } => {
                if !self.bell_is_there(key)? {
                    self.open = Some(open_quietly(key.first(), means.options)?);
                }
                (key.first(), self.open.as_ref(), Closing::Written)
            }
            _ if self.blocked_by_turnstile => {
                let turnstile = self.turnstile.as_ref().map(|turnstile| &turnstile.open);
                (key.turnstile(), turnstile, Closing::Written)
            }
            _ => (key.first(), self.open.as_ref(), Closing::Any),
        };
        let Some(open) = open else { return Ok(()) };
        match &mut self.watch {
            Some(Watched { inode, file }) if *inode == open.inode => match file {
                Some(file) => file.changed().await,
                None => std::future::pending().await,
            },
            watch => {
                let file = means.watch.file(path, &open.file, closing);
                *watch = Some(Watched { inode: open.inode, file });
            }
        }
        Ok(())
    }

    fn bell_is_there(&self, key: &FileKey) -> io::Result<bool> {
        self.open.as_ref().map_or(Ok(false), |bell| bell.inode.is_at(key.first()))
    }

    fn lock_main(
        &mut self,
        key: &FileKey,
        kind: Kind,
        Means { watch, options, loss }: Means<'_>,
    ) -> io::Result<Option<LockedFile>> {
        LockedFile::lock(key.first(), kind, &mut self.open, (watch, options, loss))
    }

    /// Locks the turnstile, if nobody excludes that; it stays open either way.
    fn enter_turnstile(&mut self, key: &FileKey, kind: Kind, means: Means<'_>) -> io::Result<bool> {
        let turnstile = match &mut self.turnstile {
            Some(turnstile) => turnstile,
            None => {
                let open = open_lock_file(key.turnstile(), means.options)?;
                self.turnstile.insert(Turnstile { open, is_locked: false })
            }
        };
        if !turnstile.is_locked {
            turnstile.is_locked = try_lock(&turnstile.open, kind)?;
        }
        self.blocked_by_turnstile = !turnstile.is_locked;
        Ok(turnstile.is_locked)
    }
}
