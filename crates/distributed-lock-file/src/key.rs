//! The native key of file locks: a file in the lock directory.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A lock's main file. Keys of one provider differ by name alone: there is one directory.
#[derive(Debug, Clone)]
pub struct FileKey(Arc<Names>);

#[derive(Debug)]
struct Names {
    file_name: String,
    path: PathBuf,
    token_path: PathBuf,
}

impl FileKey {
    pub(crate) fn new(directory: &Path, stem: &str) -> Self {
        let file_name = format!("{stem}.lock");
        let path = directory.join(&file_name);
        let token_path = directory.join(format!("{stem}.token"));
        Self(Arc::new(Names { file_name, path, token_path }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    pub(crate) fn token_path(&self) -> &Path {
        &self.0.token_path
    }

    fn file_name(&self) -> &str {
        &self.0.file_name
    }
}

impl PartialEq for FileKey {
    fn eq(&self, other: &Self) -> bool {
        self.file_name() == other.file_name()
    }
}

impl Eq for FileKey {}

impl Hash for FileKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.file_name().hash(state);
    }
}

/// Keys are found by the file names that the kernel reports.
impl Borrow<str> for FileKey {
    fn borrow(&self) -> &str {
        self.file_name()
    }
}

impl fmt::Display for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.file_name())
    }
}
