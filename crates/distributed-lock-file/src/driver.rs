//! The driver of file locks.

use std::fs::TryLockError;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use distributed_lock_core::background::Home;
use distributed_lock_core::driver::{Attempt, Driver, Granted, WakeUp};
use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_core::{
    FencingToken, Guarantees, HoldEnds, Holder, LockName, Mode, TokenDurability,
};

use crate::counter;
use crate::directory::open_directory;
use crate::holder;
use crate::key::FileKey;
use crate::name::stem;
use crate::open::{OpenFile, open_lock_file};
use crate::options::FileOptions;
use crate::record::Identity;
use crate::watch::{HeldFile, WaitedFile, Watch};

/// How often a waiter looks although nobody told it to: a program that unlocks a file without
/// closing it raises no event.
const FALLBACK_PERIOD: Duration = Duration::from_secs(1);

/// How soon a holder learns that its file was removed or replaced.
const LOSS_TOLD_WITHIN: Duration = Duration::from_millis(50);

/// How often one request follows a lock file that is replaced under its hands, before it says
/// "held": whoever replaces it holds it in between.
const FOLLOW_LIMIT: usize = 100;

/// `flock` on files in one directory.
#[derive(Debug)]
pub struct FileDriver {
    directory: PathBuf,
    options: FileOptions,
    identity: Identity,
    watch: Watch,
}

/// What a waiter has: its file, opened once, and the kernel's word that it will hear of a change.
#[derive(Debug, Default)]
pub struct FilePlace {
    // Dropped in this order: closing the file is an event that this waiter need not hear.
    watch: Option<WaitedFile>,
    open: Option<OpenFile>,
    watched: bool,
}

/// A locked file; empty once it was released.
#[derive(Debug)]
pub struct FileGrant {
    key: FileKey,
    held: Mutex<Option<Held>>,
}

#[derive(Debug)]
struct Held {
    /// Dropped first: no loss is reported from the moment of release.
    watch: HeldFile,
    open: OpenFile,
    /// Another process may have the same descriptor, and with it the lock.
    is_shared: bool,
}

impl FileDriver {
    pub(crate) fn open(directory: &Path, options: FileOptions, home: Home) -> LockResult<Self> {
        let directory = open_directory(directory, &options)?;
        let identity = Identity::of_this_process(options.label.as_deref());
        let watch = Watch::new(directory.clone(), home);
        Ok(Self { directory, options, identity, watch })
    }

    /// Locks the file at the key's path, if nobody else has it locked.
    fn lock(&self, attempt: &mut Attempt<FileKey, FilePlace>) -> io::Result<Option<FileGrant>> {
        let path = attempt.key.path();
        for _ in 0..FOLLOW_LIMIT {
            let open = match attempt.place.open.take() {
                Some(open) => open,
                None => open_lock_file(path, &self.options)?,
            };
            match open.file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => {
                    if attempt.place.watched && !open.inode.is_at(path)? {
                        // Who has it locked holds nothing any more; the wait moves to the new file.
                        attempt.place = FilePlace::default();
                        continue;
                    }
                    attempt.place.open = Some(open);
                    return Ok(None);
                }
            }
            let watch = self.watch.hold(&attempt.key, open.inode, &attempt.loss);
            if open.inode.is_at(path)? {
                self.identity.write(&open.file);
                let held = Held { watch, open, is_shared: false };
                let key = attempt.key.clone();
                return Ok(Some(FileGrant { key, held: Mutex::new(Some(held)) }));
            }
            // Somebody removed it between our opening and locking it.
            attempt.place = FilePlace::default();
        }
        Ok(None)
    }
}

impl Driver for FileDriver {
    type Key = FileKey;
    type Place = FilePlace;
    type Grant = FileGrant;

    fn resolve(&self, name: LockName<'_>, mode: Mode) -> LockResult<FileKey> {
        match mode {
            Mode::Exclusive => Ok(FileKey::new(&self.directory, &stem(name))),
            Mode::Shared => Err(LockError::Unsupported("read locks on files".into())),
            Mode::Permit { .. } => Err(LockError::Unsupported("semaphores on files".into())),
        }
    }

    /// Runs inline: a blocking pool costs several times the lock.
    async fn try_acquire(
        &self,
        attempt: &mut Attempt<FileKey, FilePlace>,
    ) -> LockResult<Option<Granted<FileGrant>>> {
        Ok(self.lock(attempt).map_err(LockError::backend)?.map(Granted::lasting))
    }

    async fn wait(
        &self,
        attempt: &mut Attempt<FileKey, FilePlace>,
    ) -> LockResult<WakeUp<FileGrant>> {
        let place = &mut attempt.place;
        if !place.watched {
            // What happened before the watch was there is seen by another try.
            place.watch = place.open.as_ref().and_then(|o| self.watch.file(&attempt.key, &o.file));
            place.watched = true;
            return Ok(WakeUp::TryAgain);
        }
        match &mut place.watch {
            Some(watch) => watch.changed().await,
            None => std::future::pending().await,
        }
        Ok(WakeUp::TryAgain)
    }

    /// An open file is all that an attempt has, and closing it undoes everything.
    fn must_withdraw(&self, _attempt: &Attempt<FileKey, FilePlace>) -> bool {
        false
    }

    async fn release(&self, grant: &FileGrant) -> LockResult<()> {
        grant.release(&self.options)
    }

    fn release_now(&self, grant: &FileGrant) -> Option<LockResult<()>> {
        Some(grant.release(&self.options))
    }

    async fn fencing_token(&self, grant: &FileGrant) -> LockResult<FencingToken> {
        let path = grant.key.token_path();
        counter::draw(path, &self.options, || grant.check_held()).await
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees::new(HoldEnds::WithProcess, LOSS_TOLD_WITHIN)
            .with_tokens(TokenDurability::SurviveDataLoss, "one name in one directory")
    }

    fn fallback_period(&self) -> Duration {
        FALLBACK_PERIOD
    }

    async fn holder(&self, key: &FileKey) -> LockResult<Option<Holder>> {
        holder::of(key, self.watch.waiting_file(key)).map_err(LockError::backend)
    }

    fn keep_alive_fd(&self, grant: &FileGrant) -> LockResult<Option<OwnedFd>> {
        let mut held = grant.lock();
        let Some(held) = held.as_mut() else { return Ok(None) };
        let copy = held.open.file.try_clone().map_err(LockError::backend)?;
        held.is_shared = true;
        Ok(Some(copy.into()))
    }
}

impl FileGrant {
    fn release(&self, options: &FileOptions) -> LockResult<()> {
        let Some(Held { watch, open, is_shared }) = self.lock().take() else { return Ok(()) };
        drop(watch);
        // Unlocking frees it even while a child has the descriptor; closing it wakes those who wait.
        open.file.unlock().map_err(LockError::backend)?;
        drop(open);
        if is_shared {
            // A child's descriptor may have kept the file open: raise the event by another close.
            drop(open_lock_file(self.key.path(), options).map_err(LockError::backend)?);
        }
        Ok(())
    }

    fn check_held(&self) -> LockResult<()> {
        let held = self.lock();
        let here = held.as_ref().map(|held| held.open.inode.is_at(self.key.path()));
        match here.transpose().map_err(LockError::backend)? {
            Some(true) => Ok(()),
            _ => Err(LockError::LockLost("its lock file was removed or replaced".into())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
