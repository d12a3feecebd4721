//! Wake-ups and loss, reported by the kernel: one inotify instance for a provider.
//!
//! The instance is made for the first waiter, or when a lock has been held for [`SETTLED_AFTER`]: a
//! process that makes one needs up to 15 ms more to end, because the kernel frees it slowly. What
//! happened to a held file before that is seen when the watch begins, or at the release.
//!
//! One watch on the directory notices lock files that are removed or replaced while they are held;
//! one on each directory and link on its path, and one on the mount table, notice that the path leads
//! elsewhere; one on each file that somebody waits for notices its release. Not every change of a path
//! raises an event, so while files are held the path is also followed once in [`LOOK_PERIOD`].
//!
//! Where there is no inotify, or no instance left, waiters rely on the engine's fallback period and
//! held files are looked at as often. The kernel is asked again each time.

#[cfg(target_os = "linux")]
mod inotify;
#[cfg(not(target_os = "linux"))]
#[path = "no_inotify.rs"]
mod inotify;
#[cfg(target_os = "linux")]
mod mounts;
#[cfg(target_os = "linux")]
mod path;
mod registry;

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use distributed_lock_core::background::{BoxFuture, Home, Resident};
use distributed_lock_core::driver::LossReporter;
use tokio::sync::watch;
use tokio::time::sleep_until;

use self::inotify::Inotify;
use self::registry::{Held, Registry};
use crate::directory::check_directory;
use crate::key::LockPath;
use crate::open::Inode;
use crate::options::FileOptions;

/// How often it is looked where the path of held files leads or, without inotify, at the files
/// themselves.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// How long the first file is held before the directory is watched. Far less than the time within which
/// a loss is reported.
const SETTLED_AFTER: Duration = Duration::from_millis(10);

/// What a provider's files are watched with.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    reader: Resident,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    options: FileOptions,
    /// Empty as long as the kernel refuses.
    inotify: OnceLock<Inotify>,
    was_refused: AtomicBool,
    registry: Registry,
}

impl Watch {
    pub(crate) fn new(directory: PathBuf, options: FileOptions, home: Home) -> Self {
        let (inotify, was_refused) = (OnceLock::new(), AtomicBool::new(false));
        let registry = Registry::default();
        let shared = Arc::new(Shared { directory, options, inotify, was_refused, registry });
        let read = Arc::clone(&shared);
        let reader = Resident::new(home, move || read_events(Arc::clone(&read)));
        Self { shared, reader }
    }

    /// Looks after a file that was locked, until that is dropped. Whether it is still the one at its
    /// path is for the caller to see then, and to [`confirm`](HeldFile::confirm).
    pub(crate) fn hold(&self, path: &LockPath, inode: Inode) -> HeldFile {
        if let Some(inotify) = self.shared.inotify.get() {
            inotify.ensure_directory();
        }
        self.reader.ensure();
        let held = self.shared.registry.hold(path, inode);
        HeldFile { shared: Arc::clone(&self.shared), path: path.clone(), held }
    }

    /// Tells when the file at the path is closed or replaced; `None` if the kernel cannot.
    /// Which file that is may have changed since it was opened: watch first, then look.
    pub(crate) fn file(
        &self,
        path: &LockPath,
        open: &Arc<File>,
        closing: Closing,
    ) -> Option<WaitedFile> {
        self.reader.ensure();
        let inotify = self.shared.inotify()?;
        let watch =
            self.shared.registry.wait(path, open, || inotify.watch_file(path.as_ref(), closing));
        match watch {
            Ok((id, changes)) => Some(WaitedFile { shared: Arc::clone(&self.shared), id, changes }),
            Err(error) => {
                tracing::debug!(%error, file = %path, "cannot be watched, will be polled");
                None
            }
        }
    }

    /// The file of a path as somebody who waits for it has it open. To open another, only to look at
    /// it, would wake everybody who waits when it is closed.
    pub(crate) fn waiting_file(&self, path: &LockPath) -> Option<Arc<File>> {
        self.shared.registry.waiting_file(path)
    }
}

impl Shared {
    /// The inotify instance, if the kernel has given one. A refusal is left to the reader to repeat.
    fn inotify(&self) -> Option<&Inotify> {
        match self.inotify.get() {
            None if !self.is_refused() => {
                let inotify = self.ask_for_inotify();
                self.registry.wake_reader();
                inotify
            }
            inotify => inotify,
        }
    }

    fn is_refused(&self) -> bool {
        self.was_refused.load(Ordering::Relaxed)
    }

    /// Completes when the kernel's events are needed: something is waited for, or was held for
    /// [`SETTLED_AFTER`].
    async fn needed(&self) {
        while self.inotify.get().is_none() && !self.is_refused() {
            match self.registry.first_held_at() {
                None => self.registry.used().await,
                Some(since) if since.elapsed() >= SETTLED_AFTER => return,
                Some(since) => tokio::select! {
                    () = sleep_until(since + SETTLED_AFTER) => {}
                    () = self.registry.used() => {}
                },
            }
        }
    }

    fn ask_for_inotify(&self) -> Option<&Inotify> {
        match Inotify::new(&self.directory) {
            Ok(inotify) => Some(self.inotify.get_or_init(|| inotify)),
            Err(error) => {
                if !self.was_refused.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        %error,
                        directory = %self.directory.display(),
                        "lock files cannot be watched and are polled once a second until they can; \
                         raise fs.inotify.max_user_instances if it is exhausted"
                    );
                }
                None
            }
        }
    }

    /// The path leads to another directory: locks are there from now on, so it should be as safe.
    fn moved(&self) {
        match check_directory(&self.directory, &self.options) {
            Ok(()) => tracing::warn!(
                directory = %self.directory.display(),
                "the path of the lock directory leads elsewhere than before; locks in the old \
                 directory are lost, new ones are in the new directory"
            ),
            Err(error) => tracing::warn!(
                %error,
                directory = %self.directory.display(),
                "the path of the lock directory leads elsewhere than before, and not to a directory \
                 that is safe to use"
            ),
        }
    }
}

/// Whose closing of a file is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    /// Everybody's: other programs may lock a file that they have open for reading only.
    Any,
    /// That of those who had it open for writing.
    Written,
}

/// A held file under watch.
#[derive(Debug)]
pub(crate) struct HeldFile {
    shared: Arc<Shared>,
    path: LockPath,
    held: Arc<Held>,
}

impl HeldFile {
    /// The file was found at its path: from now on `loss` is told when it no longer is.
    pub(crate) fn confirm(&self, loss: &LossReporter) {
        self.held.confirm(loss);
    }
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        self.shared.registry.release(&self.path, &self.held);
    }
}

/// A file that somebody waits for.
#[derive(Debug)]
pub(crate) struct WaitedFile {
    shared: Arc<Shared>,
    id: i32,
    changes: watch::Receiver<()>,
}

impl WaitedFile {
    /// Completes with the first change since the last call; none is missed between two calls.
    pub(crate) async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            // The sender is dropped with the last interest in the file, which includes this one.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for WaitedFile {
    fn drop(&mut self) {
        if let Some(inotify) = self.shared.inotify.get() {
            self.shared.registry.stop_waiting(self.id, || inotify.unwatch(self.id));
        }
    }
}

fn read_events(shared: Arc<Shared>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        shared.needed().await;
        loop {
            if let Some(inotify) = shared.inotify.get().or_else(|| shared.ask_for_inotify()) {
                let read = inotify.read(&shared.registry, || shared.moved()).await;
                if let Err(error) = read {
                    tracing::warn!(%error, "lock files cannot be watched for the moment");
                }
            }
            tokio::time::sleep(LOOK_PERIOD).await;
            shared.registry.check_all();
        }
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::key::FileKey;
    use crate::open::open_lock_file;

    #[tokio::test(start_paused = true)]
    async fn only_a_hold_that_lasts_makes_an_inotify_instance() {
        let directory = tempfile::tempdir().unwrap();
        let path = FileKey::lock(directory.path(), "stem".into()).first().clone();
        let options = FileOptions::default();
        let open = open_lock_file(&path, &options).unwrap();
        let watch = Watch::new(directory.path().to_owned(), options, Home::CurrentRuntime);
        for _ in 0..20 {
            let short = watch.hold(&path, open.inode);
            tokio::time::sleep(SETTLED_AFTER / 2).await;
            drop(short);
            assert!(watch.shared.inotify.get().is_none());
        }
        let lasting = watch.hold(&path, open.inode);
        tokio::time::sleep(SETTLED_AFTER * 2).await;
        assert!(watch.shared.inotify.get().is_some());
        drop(lasting);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_makes_an_inotify_instance_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = FileKey::lock(directory.path(), "stem".into()).first().clone();
        let options = FileOptions::default();
        let open = open_lock_file(&path, &options).unwrap();
        let watch = Watch::new(directory.path().to_owned(), options, Home::CurrentRuntime);
        let mut waited = watch.file(&path, &open.file, Closing::Any).unwrap();
        assert!(watch.shared.inotify.get().is_some());
        // The reader waits for the kernel, not for a hold.
        tokio::task::yield_now().await;
        drop(open_lock_file(&path, &FileOptions::default()).unwrap());
        waited.changed().await;
    }
}
