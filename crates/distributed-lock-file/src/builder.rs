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
    /// Sets the permissions of lock files. Default: `0o600`, one user. `0o660` shares them with a
    /// group: the directory is then made with `0o770`, and one that its group can write to is
    /// accepted.
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
    /// not there. Providers over the same directory share their locks, in any process.
    ///
    /// # Errors
    /// [`LockError::Config`] if the directory or an option is not safe to use;
    /// [`LockError::Backend`] if the directory cannot be made or read; [`LockError::Unsupported`] on
    /// platforms other than Unix.
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
        if self.file.file_mode & !0o777 != 0 || self.file.file_mode & 0o600 != 0o600 {
            return Err(LockError::Config(format!(
                "mode {:#o}: lock files need permissions between 0o600 and 0o777 that let their \
                 owner read and write",
                self.file.file_mode
            )));
        }
        FileDriver::open(directory.as_ref(), self.file, self.engine.home)
    }
}
