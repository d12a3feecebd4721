//! Opening lock files without being led astray.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, Stat, fchmod, fstat, lstat, major, minor, open};

use crate::options::FileOptions;

/// Which file a descriptor or path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    pub(crate) fn of_file(file: &File) -> io::Result<Self> {
        Ok(Self::of(&fstat(file)?))
    }

    fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, number: stat.st_ino }
    }

    /// As the kernel writes it in `/proc/locks`.
    pub(crate) fn in_proc_locks(self) -> String {
        let (major, minor) = (major(self.device), minor(self.device));
        format!("{major:02x}:{minor:02x}:{}", self.number)
    }

    /// Whether the path leads to this file now. A path that leads nowhere does not.
    pub(crate) fn is_at(self, path: impl AsRef<Path>) -> io::Result<bool> {
        match lstat(path.as_ref()) {
            Ok(stat) => Ok(Self::of(&stat) == self),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// An open lock file.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) file: Arc<File>,
    pub(crate) inode: Inode,
}

/// Opens a lock file, making it if needed.
///
/// Links are not followed and nothing is truncated. What is not a regular file, has a second name,
/// or belongs to another user is an error, unless lock files are meant to be shared.
pub(crate) fn open_lock_file(
    path: impl AsRef<Path>,
    options: &FileOptions,
) -> io::Result<OpenFile> {
    open_with(path.as_ref(), OFlags::RDWR, options)
}

/// Opens a file that others watch for the closing of writers: closing this one is no event for them.
pub(crate) fn open_quietly(path: impl AsRef<Path>, options: &FileOptions) -> io::Result<OpenFile> {
    open_with(path.as_ref(), OFlags::RDONLY, options)
}

fn open_with(path: &Path, access: OFlags, options: &FileOptions) -> io::Result<OpenFile> {
    let flags = OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let flags = access | flags;
    let mode = Mode::from_raw_mode(options.file_mode);
    let descriptor = open(path, flags, mode).map_err(|error| explain(path, error.into()))?;
    let stat = fstat(&descriptor)?;
    check(path, &stat, options)?;
    let owned = stat.st_uid == options.user;
    if options.is_shared() && owned && Mode::from_raw_mode(stat.st_mode) != mode {
        // The umask took away what was asked for.
        fchmod(&descriptor, mode)?;
    }
    Ok(OpenFile { file: Arc::new(File::from(descriptor)), inode: Inode::of(&stat) })
}

fn check(path: &Path, stat: &Stat, options: &FileOptions) -> io::Result<()> {
    let refuse = |why: &str| {
        let text =
            format!("lock file {} {why}; remove it or use another directory", path.display());
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return refuse("is not a regular file");
    }
    if stat.st_nlink > 1 {
        return refuse("has a second name (hard link)");
    }
    if !options.is_shared() && stat.st_uid != options.user {
        return refuse("belongs to another user");
    }
    Ok(())
}

fn explain(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("lock file {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_new_file_is_private_and_is_the_one_at_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.lock");
        let opened = open_lock_file(&path, &FileOptions::default()).unwrap();
        assert_eq!(opened.file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(opened.inode.is_at(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(!opened.inode.is_at(&path).unwrap());
    }

    #[test]
    fn a_group_mode_is_not_taken_away_by_the_umask() {
        let directory = tempfile::tempdir().unwrap();
        let options = FileOptions { file_mode: 0o660, ..FileOptions::default() };
        let opened = open_lock_file(directory.path().join("a.lock"), &options).unwrap();
        assert_eq!(opened.file.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    }

    #[test]
    fn links_fifos_and_directories_are_errors_and_stay_untouched() {
        let directory = tempfile::tempdir().unwrap();
        let refused = |name: &str| {
            let path = directory.path().join(name);
            open_lock_file(&path, &FileOptions::default()).unwrap_err();
        };
        let target = directory.path().join("target");
        std::fs::write(&target, "precious").unwrap();
        symlink(&target, directory.path().join("link")).unwrap();
        symlink(directory.path().join("nowhere"), directory.path().join("dangling")).unwrap();
        std::fs::hard_link(&target, directory.path().join("hard")).unwrap();
        std::fs::create_dir(directory.path().join("directory")).unwrap();
        let fifo = directory.path().join("fifo");
        let kind = FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for name in ["link", "dangling", "hard", "directory", "fifo"] {
            refused(name);
        }
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
        assert!(!directory.path().join("nowhere").exists());
    }

    #[test]
    fn a_file_of_another_user_is_an_error_unless_shared() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.lock");
        std::fs::write(&path, "").unwrap();
        if std::os::unix::fs::chown(&path, Some(65534), None).is_err() {
            // Only root can give files away; then only root could be deceived this way.
            return;
        }
        let error = open_lock_file(&path, &FileOptions::default()).unwrap_err();
        assert!(error.to_string().contains("belongs to another user"), "{error}");
        let shared = FileOptions { file_mode: 0o666, ..FileOptions::default() };
        open_lock_file(&path, &shared).unwrap();
    }
}
