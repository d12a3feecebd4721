//! Locking one file, which somebody may remove or replace at the same time.

use std::fs::TryLockError;
use std::io;

use distributed_lock_core::driver::LossReporter;

use crate::failure::of_file;
use crate::key::LockPath;
use crate::open::{FOLLOW_LIMIT, OpenFile, open_lock_file};
use crate::options::FileOptions;
use crate::watch::{HeldFile, Watch};

/// How a file is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShareMode {
    Exclusive,
    Shared,
}

/// Locks an open file if nobody has it locked in a way that excludes that.
pub(crate) fn try_lock(open: &OpenFile, mode: ShareMode) -> io::Result<bool> {
    let locked = match mode {
        ShareMode::Exclusive => open.file.try_lock(),
        ShareMode::Shared => open.file.try_lock_shared(),
    };
    match locked {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A file that is locked and is the one at its path, under watch.
#[derive(Debug)]
pub(crate) struct LockedFile {
    /// Dropped first: no loss is reported from the moment of release.
    pub(crate) watch: HeldFile,
    pub(crate) open: OpenFile,
    pub(crate) path: LockPath,
}

impl LockedFile {
    /// Locks the file at a path, if nobody excludes that; `loss` is told when it is taken away.
    ///
    /// `open` is the file as the caller has it open, if it has, and is left there if it is locked
    /// by others.
    pub(crate) fn lock(
        path: &LockPath,
        mode: ShareMode,
        open: &mut Option<OpenFile>,
        (watch, options, loss): (&Watch, &FileOptions, &LossReporter),
    ) -> io::Result<Option<Self>> {
        for _ in 0..FOLLOW_LIMIT {
            let was_open = open.is_some();
            let file = match open.take() {
                Some(file) => file,
                None => open_lock_file(path, options)?,
            };
            if !try_lock(&file, mode).map_err(|error| of_file(path, error))? {
                if was_open && !file.inode.is_at(path)? {
                    // Who has it locked holds nothing any more.
                    continue;
                }
                *open = Some(file);
                return Ok(None);
            }
            let watch = watch.hold(path, file.inode);
            if file.inode.is_at(path)? {
                watch.confirm(loss);
                return Ok(Some(Self { watch, open: file, path: path.clone() }));
            }
            // Somebody removed it between our opening and locking it.
        }
        Ok(None)
    }
}
