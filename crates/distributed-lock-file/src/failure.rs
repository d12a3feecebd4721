//! Errors of the file system: which file they are about, and which of them pass by themselves.

use std::io;
use std::path::{Path, PathBuf};

use distributed_lock_core::error::LockError;
use rustix::io::Errno;

/// What went wrong with one file.
#[derive(Debug, thiserror::Error)]
#[error("lock file {}", path.display())]
struct FileError {
    path: PathBuf,
    source: io::Error,
}

/// Adds the name of the file to an error.
pub(crate) fn of_file(path: impl AsRef<Path>, error: impl Into<io::Error>) -> io::Error {
    let (path, source) = (path.as_ref().to_owned(), error.into());
    io::Error::new(source.kind(), FileError { path, source })
}

/// The lock error of an error that one of our calls returned.
pub(crate) fn refusal(error: io::Error) -> LockError {
    if passes_by_itself(&error) { LockError::transient(error) } else { LockError::backend(error) }
}

/// Whether the same call can succeed later without anybody changing this file or its directory.
pub(crate) fn passes_by_itself(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<FileError>());
    let code = inner.map_or(error, |file| &file.source).raw_os_error();
    code.map(Errno::from_raw_os_error).is_some_and(|code| TRANSIENT.contains(&code))
}

/// Refusals that pass: what is short for the moment, and a lease that another program has on a file.
const TRANSIENT: [Errno; 8] = [
    Errno::MFILE,
    Errno::NFILE,
    Errno::NOMEM,
    Errno::NOLCK,
    Errno::NOSPC,
    Errno::DQUOT,
    Errno::AGAIN,
    Errno::INTR,
];

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn what_is_short_for_the_moment_passes_and_the_file_is_named() {
        let full = refusal(of_file("/x/a.lock", Errno::NOSPC));
        assert!(full.is_retryable());
        let file = full.find_source::<io::Error>().unwrap();
        assert_eq!(file.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.to_string(), "lock file /x/a.lock");
        assert!(file.source().unwrap().to_string().contains("No space left"), "{file:?}");
        assert!(!refusal(of_file("/x/a.lock", Errno::ACCESS)).is_retryable());
        assert!(!refusal(io::ErrorKind::Unsupported.into()).is_retryable());
    }
}
