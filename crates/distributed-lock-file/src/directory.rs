//! The directory of the lock files: made safely, and refused where locks in it would be unsafe.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use distributed_lock_core::error::{LockError, LockResult};
use rustix::io::Errno;

use crate::create::make_directory;
use crate::failure::passes_by_itself;
use crate::options::FileOptions;
use crate::trust::check_route;

/// Makes the directory if it is not there, and checks it; its absolute path.
pub(crate) fn open_directory(path: &Path, options: &FileOptions) -> LockResult<PathBuf> {
    let path = std::path::absolute(path).map_err(|error| refused(path, error))?;
    check_route(&path, options)?;
    if make(&path, options.directory_mode(), options).map_err(|error| refused(&path, error))? {
        check_route(&path, options)?;
    }
    check_directory(&path, options)?;
    Ok(path)
}

/// Checks the directory that a path leads to.
pub(crate) fn check_directory(path: &Path, options: &FileOptions) -> LockResult<()> {
    let metadata = path.metadata().map_err(|error| refused(path, error))?;
    if !metadata.is_dir() {
        return Err(refused(path, Errno::NOTDIR.into()));
    }
    check_access(path, &metadata, options)?;
    check_file_system(path, options)
}

/// Makes the directory and those above it, if it is not there; whether it was not. All who may use the
/// lock files may pass those above, and only this user may write to them.
fn make(path: &Path, permissions: u32, options: &FileOptions) -> io::Result<bool> {
    match path.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found.map(|_| false),
    }
    if let Some(parent) = path.parent() {
        make(parent, options.directory_mode() & !0o022, options)?;
    }
    make_directory(path, permissions, options)?;
    Ok(true)
}

/// A path that cannot be a lock directory for this process is a mistake in the configuration.
fn refused(path: &Path, error: io::Error) -> LockError {
    let text = format!("lock directory {}: {error}", path.display());
    match Errno::from_io_error(&error) {
        Some(
            Errno::ACCESS
            | Errno::LOOP
            | Errno::NAMETOOLONG
            | Errno::NOENT
            | Errno::NOTDIR
            | Errno::PERM
            | Errno::ROFS,
        ) => {}
        // Refused without asking the system: empty, with a NUL, or by another user's link.
        None if matches!(
            error.kind(),
            io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied
        ) => {}
        _ if passes_by_itself(&error) => {
            return LockError::transient(io::Error::new(error.kind(), text));
        }
        _ => return LockError::backend(io::Error::new(error.kind(), text)),
    }
    LockError::Config(format!("{text}; name a directory that can be made, read and written to"))
}

/// Whoever can write to the directory can remove lock files, and so let two holders in.
fn check_access(path: &Path, metadata: &Metadata, options: &FileOptions) -> LockResult<()> {
    let (mode, owner) = (metadata.permissions().mode(), metadata.uid());
    let sticky = mode & 0o1000 != 0;
    if options.shared_directory && (mode & 0o022 == 0 || sticky) {
        return Ok(());
    }
    let path = path.display();
    if owner != 0 && owner != options.user {
        return Err(LockError::Config(format!(
            "lock directory {path} belongs to user {owner}, who could remove lock files; use one \
             of your own, or allow_shared_directory(true) if everybody who can write to it is trusted"
        )));
    }
    if mode & 0o002 != 0 || mode & 0o020 != 0 && !options.is_for_group() {
        return Err(LockError::Config(format!(
            "others can write to lock directory {path} (mode {:04o}) and could remove lock files; \
             use `chmod go-w`, or mode(0o660) to share it with its group, or make it sticky \
             (`chmod +t`) and use allow_shared_directory(true)",
            mode & 0o7777
        )));
    }
    Ok(())
}
#[cfg(target_os = "linux")]
fn check_file_system(path: &Path, options: &FileOptions) -> LockResult<()> {
    if options.any_file_system {
        return Ok(());
    }
    let info = rustix::fs::statfs(path).map_err(|error| refused(path, error.into()))?;
    // Magic numbers have 32 bits, whatever type a platform carries them in.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "32 bits count")]
    match unsuitable(info.f_type as u32) {
        None => Ok(()),
        Some(kind) => Err(LockError::Config(format!(
            "lock directory {} is on {kind}, where flock is emulated, off or not shared between \
             machines; use a local directory or another backend, or allow_any_file_system(true) if \
             you know that it works",
            path.display()
        ))),
    }
}

#[cfg(not(target_os = "linux"))]
fn check_file_system(_path: &Path, _options: &FileOptions) -> LockResult<()> {
    Ok(())
}

/// File systems known by their magic number (`statfs(2)`) not to have a `flock` that can be relied
/// on: emulated by byte ranges, local to each client, or up to a user-space server.
#[cfg(target_os = "linux")]
fn unsuitable(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x517B | 0xFE53_4D42 | 0xFF53_4D42 => "SMB/CIFS",
        0x0102_1997 => "9P",
        0x6573_5546 => "FUSE",
        0x5346_414F | 0x6B41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x0BD0_0BD0 => "Lustre",
        0x786F_4256 => "a VirtualBox shared folder",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    fn open(path: &Path, options: FileOptions) -> LockResult<PathBuf> {
        open_directory(path, &options)
    }

    fn with_mode(mode: u32) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(mode)).unwrap();
        directory
    }

    #[test]
    fn a_new_directory_is_private() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("new/locks");
        open(&path, FileOptions::default()).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
    }

    #[test]
    fn a_path_is_made_through_links_but_not_by_them() {
        let parent = tempfile::tempdir().unwrap();
        let (target, link) = (parent.path().join("target"), parent.path().join("link"));
        fs::create_dir(&target).unwrap();
        std::os::unix::fs::symlink("target", &link).unwrap();
        open(&link.join("a/b"), FileOptions::default()).unwrap();
        assert!(target.join("a/b").is_dir());
        let dangling = parent.path().join("dangling");
        std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
        let refused = open(&dangling, FileOptions::default());
        assert!(matches!(refused, Err(LockError::Config(_))), "{refused:?}");
        assert!(!parent.path().join("nowhere").exists());
    }

    #[test]
    fn row_72_no_directory_is_made_by_a_link_of_another_user() {
        let parent = tempfile::tempdir().unwrap();
        let (private, link) = (parent.path().join("private"), parent.path().join("link"));
        fs::create_dir(&private).unwrap();
        std::os::unix::fs::symlink("private", &link).unwrap();
        if std::os::unix::fs::lchown(&link, Some(65_534), None).is_err() {
            // Only root can give links away.
            return;
        }
        for below in ["locks", "above/locks"] {
            let options = FileOptions { shared_directory: true, ..FileOptions::default() };
            let refused = open(&link.join(below), options);
            assert!(matches!(refused, Err(LockError::Config(_))), "{refused:?}");
            assert_eq!(fs::read_dir(&private).unwrap().count(), 0, "{below} was made");
        }
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused_unless_sticky_and_asked_for() {
        let shared = || FileOptions { shared_directory: true, ..FileOptions::default() };
        for mode in [0o777, 0o1777, 0o770] {
            let directory = with_mode(mode);
            let refused = open(directory.path(), FileOptions::default());
            assert!(matches!(refused, Err(LockError::Config(_))), "{mode:o}: {refused:?}");
        }
        assert!(matches!(open(with_mode(0o777).path(), shared()), Err(LockError::Config(_))));
        open(with_mode(0o1777).path(), shared()).unwrap();
        let group = FileOptions { file_mode: 0o660, ..FileOptions::default() };
        open(with_mode(0o770).path(), group).unwrap();
    }

    #[test]
    fn what_is_not_a_directory_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let below = file.path().join("below");
        for path in [file.path(), &below, Path::new(""), Path::new("/proc/none/such")] {
            let refused = open(path, FileOptions::default());
            let Err(LockError::Config(reason)) = refused else { panic!("{path:?}: {refused:?}") };
            assert!(reason.contains(&format!("lock directory {}: ", path.display())), "{reason}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn network_file_systems_are_known() {
        assert_eq!(unsuitable(0x6969), Some("NFS"));
        assert_eq!(unsuitable(0xEF53), None, "ext4 is fine");
        assert_eq!(unsuitable(0x0102_1994), None, "tmpfs is fine");
    }
}
