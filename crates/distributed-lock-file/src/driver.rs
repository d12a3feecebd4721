//! The driver of file locks.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use distributed_lock_core::background::Home;
use distributed_lock_core::driver::{Attempt, Driver, Granted, LossReporter, WakeUp};
use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_core::{
    FencingToken, Guarantees, HoldEnds, Holder, LockName, Mode, TokenDurability,
};

use crate::counter;
use crate::directory::open_directory;
use crate::failure::{of_file, refusal};
use crate::flock::LockedFile;
use crate::holder;
use crate::key::{FileKey, LockPath};
use crate::name::stem;
use crate::open::{Access, OpenFile, open_existing, open_lock_file};
use crate::options::FileOptions;
use crate::place::{FALLBACK_PERIOD, FileContext, FilePlace};
use crate::record::Identity;
use crate::watch::Watch;

/// How soon a holder is notified that its file was removed or replaced, or that its path leads
/// elsewhere.
const LOSS_DETECTED_WITHIN: Duration = Duration::from_millis(50);

/// Why a lock file that is held no longer keeps others out.
pub(crate) const TAKEN_AWAY: &str =
    "its lock file was removed or replaced, or its path leads elsewhere";

/// The most permits of a semaphore: each is a file.
const MOST_PERMITS: u32 = 65_536;

/// `flock` on files in one directory.
#[derive(Debug)]
pub struct FileDriver {
    directory: PathBuf,
    options: FileOptions,
    identity: Identity,
    watch: Watch,
}

/// A locked file; empty once it was released.
#[derive(Debug)]
pub struct FileGrant {
    key: FileKey,
    /// What was locked: the main file, or a slot.
    path: LockPath,
    held: Mutex<Option<Held>>,
}

#[derive(Debug)]
struct Held {
    locked: LockedFile,
    /// Another process may have the same descriptor, and with it the lock.
    is_shared: bool,
    /// Of a permit; closed last, because that tells those who wait.
    _bell: Option<OpenFile>,
}

impl FileDriver {
    pub(crate) fn open(directory: &Path, options: FileOptions, home: Home) -> LockResult<Self> {
        let directory = open_directory(directory, &options)?;
        let identity = Identity::of_this_process(options.label.as_deref());
        let watch = Watch::new(directory.clone(), options.clone(), home);
        Ok(Self { directory, options, identity, watch })
    }

    fn context<'a>(&'a self, loss: &'a LossReporter) -> FileContext<'a> {
        FileContext { watch: &self.watch, options: &self.options, loss }
    }

    async fn lock(
        &self,
        attempt: &mut Attempt<FileKey, FilePlace>,
    ) -> io::Result<Option<Granted<FileGrant>>> {
        let Attempt { key, mode, place, loss, .. } = attempt;
        let context = self.context(loss);
        let locked = match *mode {
            Mode::Exclusive => place.try_exclusive(key, context)?,
            Mode::Shared => place.try_shared(key, context)?,
            Mode::Permit { max } => place.try_permit(key, max, context).await?,
        };
        let Some(locked) = locked else { return Ok(None) };
        self.identity.write(&locked.open.file);
        let bell = match mode {
            Mode::Exclusive | Mode::Shared => None,
            Mode::Permit { .. } => Some(open_lock_file(key.first(), &self.options)?),
        };
        let path = locked.path.clone();
        let held = Mutex::new(Some(Held { locked, is_shared: false, _bell: bell }));
        Ok(Some(Granted::lasting(FileGrant { key: key.clone(), path, held })))
    }
}

impl Driver for FileDriver {
    type Key = FileKey;
    type Place = FilePlace;
    type Grant = FileGrant;

    fn resolve(&self, name: LockName<'_>, mode: Mode) -> LockResult<FileKey> {
        match mode {
            Mode::Exclusive | Mode::Shared => Ok(FileKey::lock(&self.directory, stem(name))),
            Mode::Permit { max } if max > MOST_PERMITS => Err(LockError::Unsupported(format!(
                "{max} permits on files; {MOST_PERMITS} is the most"
            ))),
            Mode::Permit { max } => Ok(FileKey::semaphore(&self.directory, stem(name), max)),
        }
    }

    /// Runs inline: a blocking pool costs several times the lock.
    async fn try_acquire(
        &self,
        attempt: &mut Attempt<FileKey, FilePlace>,
    ) -> LockResult<Option<Granted<FileGrant>>> {
        self.lock(attempt).await.map_err(refusal)
    }

    async fn wait(
        &self,
        attempt: &mut Attempt<FileKey, FilePlace>,
    ) -> LockResult<WakeUp<FileGrant>> {
        let Attempt { key, mode, place, loss, .. } = attempt;
        place.wait(key, *mode, self.context(loss)).await.map_err(refusal)?;
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
        counter::draw(grant.key.token().as_ref(), &self.options, || grant.check_held()).await
    }

    fn needs_runtime(&self) -> bool {
        false
    }

    fn backend(&self) -> &'static str {
        "file"
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees::new(HoldEnds::WithProcess, LOSS_DETECTED_WITHIN)
            .with_tokens(TokenDurability::SurviveDataLoss, "one name in one directory")
    }

    fn fallback_period(&self) -> Duration {
        FALLBACK_PERIOD
    }

    async fn holder(&self, key: &FileKey) -> LockResult<Option<Holder>> {
        let path = key.first();
        let found = match key.permits() {
            None => holder::of(path, self.watch.waiting_file(path), &self.options),
            Some(permits) => holder::of_a_permit(key, permits, &self.options).await,
        };
        found.map_err(refusal)
    }

    fn keep_alive_fd(&self, grant: &FileGrant) -> LockResult<Option<OwnedFd>> {
        let mut held = grant.lock();
        let Some(held) = held.as_mut() else { return Ok(None) };
        let copy = held.locked.open.file.try_clone();
        let copy = copy.map_err(|error| refusal(of_file(&grant.path, error)))?;
        held.is_shared = true;
        Ok(Some(copy.into()))
    }
}

impl FileGrant {
    fn release(&self, options: &FileOptions) -> LockResult<()> {
        let Some(Held { locked, is_shared, _bell }) = self.lock().take() else { return Ok(()) };
        let LockedFile { watch, open, .. } = locked;
        drop(watch);
        // The file may have been taken away since the last look, or before the first.
        let was_there = open.inode.is_at(&self.path).unwrap_or(true);
        // Unlocking frees it even while a child has the descriptor; closing it wakes those who wait.
        open.file.unlock().map_err(|error| refusal(of_file(&self.path, error)))?;
        drop(open);
        if is_shared {
            // A child's descriptor may have kept the file open: raise the event by another close.
            drop(open_existing(&self.path, Access::Write, options).map_err(refusal)?);
        }
        if was_there { Ok(()) } else { Err(LockError::LockLost(TAKEN_AWAY.into())) }
    }

    fn check_held(&self) -> LockResult<()> {
        let held = self.lock();
        let here = held.as_ref().map(|held| held.locked.open.inode.is_at(&self.path));
        match here.transpose().map_err(refusal)? {
            Some(true) => Ok(()),
            _ => Err(LockError::LockLost(TAKEN_AWAY.into())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
