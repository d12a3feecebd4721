//! The conformance suite on files.

use distributed_lock_file::FileLockProvider;
use distributed_lock_testkit::{Backend, Loses, conformance};
use tempfile::TempDir;

use crate::provider;

conformance!(files: Files::new(),
    with readers_writer, with semaphore, with fencing, with loss);

/// A directory, a new one for each case.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Backend for Files {
    type Provider = FileLockProvider;

    async fn connect(&self) -> FileLockProvider {
        provider(self.0.path())
    }
}

/// By a stranger who removes the lock file.
impl Loses for Files {
    async fn lose(&self, _name: &str, native_key: &str) {
        std::fs::remove_file(self.0.path().join(native_key)).unwrap();
    }
}
