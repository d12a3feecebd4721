//! What test processes of one user share: made once, used by all.

use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The directory, in the one for temporary files.
pub(crate) fn directory() -> PathBuf {
    let user = rustix::process::geteuid();
    let path = std::env::temp_dir().join(format!("distributed-lock-testkit-{}", user.as_raw()));
    if let Err(error) = fs::create_dir(&path)
        && error.kind() != ErrorKind::AlreadyExists
    {
        panic!("{}: {error}", path.display());
    }
    let metadata = fs::symlink_metadata(&path).expect("it was just made");
    let is_ours = metadata.is_dir() && metadata.uid() == user.as_raw();
    assert!(is_ours, "{} is another user's", path.display());
    // Servers that run as another user read what is here.
    fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("it is ours");
    path
}

/// A file in it, made by `make` unless another test process has: it is given a path to write to, and
/// what is there afterwards is moved into place.
pub(crate) fn file(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let directory = directory();
    let path = directory.join(name);
    if !path.exists() {
        let lock = File::create(directory.join(format!("{name}.lock"))).expect("a lock file");
        lock.lock().expect("files here can be locked");
        if !path.exists() {
            let partial = directory.join(format!("{name}.partial"));
            make(&partial);
            fs::rename(&partial, &path).expect("it was made");
        }
    }
    path
}
