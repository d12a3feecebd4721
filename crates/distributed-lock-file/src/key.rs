//! The native keys of file locks, and the files behind them.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// A file in the lock directory. Equal by file name: a provider has one directory.
#[derive(Debug, Clone)]
pub(crate) struct LockPath(Arc<Location>);

#[derive(Debug)]
struct Location {
    file_name: String,
    path: PathBuf,
}

impl LockPath {
    fn new(directory: &Path, stem: &str, ending: &str) -> Self {
        let file_name = format!("{stem}.{ending}");
        let path = directory.join(&file_name);
        Self(Arc::new(Location { file_name, path }))
    }

    fn file_name(&self) -> &str {
        &self.0.file_name
    }
}

impl AsRef<Path> for LockPath {
    fn as_ref(&self) -> &Path {
        &self.0.path
    }
}

impl PartialEq for LockPath {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.file_name() == other.file_name()
    }
}

impl Eq for LockPath {}

impl Hash for LockPath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.file_name().hash(state);
    }
}

/// Found by the file names that the kernel reports.
impl Borrow<str> for LockPath {
    fn borrow(&self) -> &str {
        self.file_name()
    }
}

impl fmt::Display for LockPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.file_name())
    }
}

/// A lock or a semaphore: the files that make it up, known by the first of them.
#[derive(Debug, Clone)]
pub struct FileKey(Arc<Files>);

#[derive(Debug)]
struct Files {
    directory: PathBuf,
    stem: String,
    first: LockPath,
    turnstile: OnceLock<LockPath>,
    /// How many slots a semaphore has; `None` of a lock.
    permits: Option<u32>,
}

impl FileKey {
    /// The mutex and reader-writer lock of a stem.
    pub(crate) fn lock(directory: &Path, stem: String) -> Self {
        Self::new(directory, stem, "lock", None)
    }

    /// The semaphore of a stem. Its permits are no part of what it is equal to.
    pub(crate) fn semaphore(directory: &Path, stem: String, permits: u32) -> Self {
        Self::new(directory, stem, "bell", Some(permits))
    }

    fn new(directory: &Path, stem: String, ending: &str, permits: Option<u32>) -> Self {
        let first = LockPath::new(directory, &stem, ending);
        let directory = directory.to_owned();
        Self(Arc::new(Files { directory, stem, first, turnstile: OnceLock::new(), permits }))
    }

    /// How many slots a semaphore has; `None` of a lock.
    pub(crate) fn permits(&self) -> Option<u32> {
        self.0.permits
    }

    /// The file that it is known by: the main file of a lock, the bell of a semaphore.
    pub(crate) fn first(&self) -> &LockPath {
        &self.0.first
    }

    /// What a writer that waits has locked, so that no more readers come in.
    pub(crate) fn turnstile(&self) -> &LockPath {
        self.0.turnstile.get_or_init(|| self.file("turnstile"))
    }

    /// What a holder of a semaphore's permit has locked.
    pub(crate) fn slot(&self, number: u32) -> LockPath {
        self.file(&format!("slot{number}"))
    }

    /// The counter of the fencing tokens.
    pub(crate) fn token(&self) -> LockPath {
        self.file("token")
    }

    fn file(&self, ending: &str) -> LockPath {
        LockPath::new(&self.0.directory, &self.0.stem, ending)
    }
}

impl PartialEq for FileKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.first == other.0.first
    }
}

impl Eq for FileKey {}

impl Hash for FileKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.first.hash(state);
    }
}

impl fmt::Display for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.first.fmt(f)
    }
}
