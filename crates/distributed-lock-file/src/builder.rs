//! Building a file lock provider.

use std::path::Path;

use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_core::{DriverProvider, Options};

use crate::driver::FileDriver;
use crate::options::FileOptions;
use crate::types::FileLockProvider;

impl FileLockProvider {
    /// A provider with options; [`build`](FileLockProviderBuilder::build) takes the directory.
    ///
    /// ```
    /// use distributed_lock_file::FileLockProvider;
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let provider = FileLockProvider::builder().label("nightly backup").build(directory.path())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder() -> FileLockProviderBuilder {
        FileLockProviderBuilder::default()
    }
}

/// Builds a [`FileLockProvider`].
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct FileLockProviderBuilder {
    file: FileOptions,
    engine: Options,
}

impl FileLockProviderBuilder {
    /// Sets the permissions of lock files. Default: `0o600`, one user. `0o660` shares them with the
    /// group of the directory: that is then made with `0o770`, and one that its group can write to is
    /// accepted. Files and directory get exactly these permissions, whatever the umask is.
    pub fn mode(mut self, mode: u32) -> Self {
        self.file.file_mode = mode;
        self
    }

    /// Sets what the holder calls itself, shown to people who wait. Default: nothing.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.file.label = Some(label.into());
        self
    }

    /// Accepts a directory of another user, and one that others can write to if it is sticky, such
    /// as one below `/tmp`. Default: refused, because who can remove a lock file can let two
    /// holders in.
    pub fn allow_shared_directory(mut self, on: bool) -> Self {
        self.file.shared_directory = on;
        self
    }

    /// Accepts file systems where `flock` is emulated, off or local to each client. Default:
    /// refused.
    pub fn allow_any_file_system(mut self, on: bool) -> Self {
        self.file.any_file_system = on;
        self
    }

    /// Keeps background work on the library's own thread. Default: on the runtime in use.
    pub fn keeper_thread(mut self, on: bool) -> Self {
        self.engine = self.engine.keeper_thread(on);
        self
    }

    /// Builds the provider for lock files in `directory`, which is made with mode `0o700` if it is
    /// not there, with those above it. Providers over the same directory share their locks, in any
    /// process.
    ///
    /// The path must not be for others to change: a directory above the lock directory that everybody
    /// can write to is refused unless it is sticky; other users who own, or groups that can write to, a
    /// directory or symbolic link on the path are named in a warning.
    ///
    /// # Errors
    /// [`LockError::Config`] if an option is not safe to use, or the directory is not, or cannot be made
    /// or read; [`LockError::Backend`] if that is so only for the moment, as on a full disk;
    /// [`LockError::Unsupported`] on platforms other than Unix.
    pub fn build(self, directory: impl AsRef<Path>) -> LockResult<FileLockProvider> {
        let options = self.engine.clone();
        let driver = self.build_driver(directory)?;
        Ok(FileLockProvider::over(DriverProvider::new(driver, options)))
    }

    /// Builds the driver alone, for those who wrap it in another.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_driver(self, directory: impl AsRef<Path>) -> LockResult<FileDriver> {
        let file = self.file_options()?;
        FileDriver::open(directory.as_ref(), file, self.engine.home)
    }

    /// The options of the files, once they are checked.
    pub(crate) fn file_options(&self) -> LockResult<FileOptions> {
        let mode = self.file.file_mode;
        if mode & !0o777 != 0 || mode & 0o600 != 0o600 {
            return Err(LockError::Config(format!(
                "mode {mode:#o}: lock files need permissions between 0o600 and 0o777 that let their \
                 owner read and write"
            )));
        }
        Ok(self.file.clone())
    }
}
