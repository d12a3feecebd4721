//! Opening lock files without being led astray. No file is opened in any other way.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, Dev, FileType, Mode, OFlags, Stat, fchmod, fstat, lstat, open, statat, unlinkat,
};
use rustix::io::Errno;

use crate::create::{make_file, mode};
use crate::failure::of_file;
use crate::options::FileOptions;
use crate::trust::open_to_change;

/// How often one call follows a file that is replaced under its hands.
pub(crate) const FOLLOW_LIMIT: usize = 100;

/// Which file a descriptor or path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inode {
    device: Dev,
    number: u64,
}

impl Inode {
    #[cfg(target_os = "linux")]
    pub(crate) fn of_file(file: &File) -> io::Result<Self> {
        Ok(Self::of(&fstat(file)?))
    }

    fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, number: stat.st_ino }
    }

    /// As the kernel writes it in `/proc/locks`.
    #[cfg(target_os = "linux")]
    pub(crate) fn in_proc_locks(self) -> String {
        let (major, minor) = (rustix::fs::major(self.device), rustix::fs::minor(self.device));
        format!("{major:02x}:{minor:02x}:{}", self.number)
    }

    /// Whether the path leads to this file now. A path that leads nowhere does not.
    ///
    /// # Errors
    /// If the path cannot be looked at, which says nothing about where it leads.
    pub(crate) fn is_at(self, path: impl AsRef<Path>) -> io::Result<bool> {
        match lstat(path.as_ref()) {
            Ok(stat) => Ok(Self::of(&stat) == self),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
            Err(error) => Err(of_file(path, error)),
        }
    }
}

/// An open lock file.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) file: Arc<File>,
    pub(crate) inode: Inode,
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// To lock and write it.
    Write,
    /// To look at it or to watch it. Closing it is no event for those who watch for writers.
    Read,
}

/// Opens a lock file, making it if needed.
///
/// Links are not followed and nothing is truncated. What is not a regular file, has a second name,
/// or belongs to another user is an error, unless lock files are meant to be shared.
pub(crate) fn open_lock_file(
    path: impl AsRef<Path>,
    options: &FileOptions,
) -> io::Result<OpenFile> {
    open_or_make(path.as_ref(), Access::Write, options)
}

/// Opens a file that others watch for the closing of writers: closing this one is no event for them.
pub(crate) fn open_quietly(path: impl AsRef<Path>, options: &FileOptions) -> io::Result<OpenFile> {
    open_or_make(path.as_ref(), Access::Read, options)
}

/// Opens a lock file if there is one, with the same checks.
///
/// Without `O_CREAT`: where `fs.protected_regular` is set, the kernel refuses that for another user's
/// file in a sticky directory. Without waiting: a FIFO, or another program's lease on the file, would
/// otherwise make the call wait.
pub(crate) fn open_existing(
    path: impl AsRef<Path>,
    access: Access,
    options: &FileOptions,
) -> io::Result<Option<OpenFile>> {
    let path = path.as_ref();
    let access = match access {
        Access::Write => OFlags::RDWR,
        Access::Read => OFlags::RDONLY,
    };
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    match open(path, access | flags, Mode::empty()) {
        Ok(descriptor) => checked(path, descriptor, options).map(Some),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP) => Err(unsuitable(path, "is a symbolic link")),
        Err(Errno::ISDIR | Errno::NXIO) => Err(unsuitable(path, NOT_REGULAR)),
        Err(error) => Err(of_file(path, error)),
    }
}

/// Removes a file, in the directory that the checked steps lead to, if it is the one at its path; whether
/// it was.
pub(crate) fn remove_file(
    path: impl AsRef<Path>,
    inode: Inode,
    options: &FileOptions,
) -> io::Result<bool> {
    let path = path.as_ref();
    let directory = open_to_change(path.parent().unwrap_or(path), options)?;
    let name = path.file_name().unwrap_or_default();
    match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if Inode::of(&stat) == inode => {}
        Ok(_) | Err(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(of_file(path, error)),
    }
    match unlinkat(&directory, name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(of_file(path, error)),
    }
}

fn open_or_make(path: &Path, access: Access, options: &FileOptions) -> io::Result<OpenFile> {
    for _ in 0..FOLLOW_LIMIT {
        if let Some(open) = open_existing(path, access, options)? {
            return Ok(open);
        }
        let made = make_file(path, options).map_err(|error| of_file(path, error))?;
        if let (Some(descriptor), Access::Write) = (made, access) {
            return checked(path, descriptor, options);
        }
        // Just made, by us or by others.
    }
    Err(of_file(path, io::Error::other("it is removed each time it was made")))
}

const NOT_REGULAR: &str = "is not a regular file";

fn checked(path: &Path, descriptor: OwnedFd, options: &FileOptions) -> io::Result<OpenFile> {
    let stat = fstat(&descriptor).map_err(|error| of_file(path, error))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(unsuitable(path, NOT_REGULAR));
    }
    if stat.st_nlink > 1 {
        return Err(unsuitable(path, "has a second name (hard link)"));
    }
    let is_ours = stat.st_uid == options.user;
    if !options.is_shared() && !is_ours {
        return Err(unsuitable(path, "belongs to another user"));
    }
    if options.is_shared()
        && is_ours
        && Mode::from_raw_mode(stat.st_mode) != mode(options.file_mode)
    {
        // Made without the mode that was asked for, by another program.
        fchmod(&descriptor, mode(options.file_mode)).map_err(|error| of_file(path, error))?;
    }
    Ok(OpenFile { file: Arc::new(File::from(descriptor)), inode: Inode::of(&stat) })
}

fn unsuitable(path: &Path, why: &str) -> io::Error {
    let text = format!("lock file {} {why}; remove it or use another directory", path.display());
    io::Error::new(io::ErrorKind::InvalidInput, text)
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
        let below_a_file = directory.path().join("file/a.lock");
        std::fs::write(directory.path().join("file"), "").unwrap();
        assert!(!opened.inode.is_at(below_a_file).unwrap());
    }

    #[test]
    fn a_group_mode_is_not_taken_away_by_the_umask() {
        let directory = tempfile::tempdir().unwrap();
        let options = FileOptions { file_mode: 0o660, ..FileOptions::default() };
        let path = directory.path().join("a.lock");
        // Made before, without that mode.
        open_lock_file(&path, &FileOptions::default()).unwrap();
        let opened = open_lock_file(&path, &options).unwrap();
        assert_eq!(opened.file.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    }

    #[test]
    fn looking_makes_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.lock");
        let look = || open_existing(&path, Access::Read, &FileOptions::default()).unwrap();
        assert!(look().is_none());
        open_quietly(&path, &FileOptions::default()).unwrap();
        assert!(look().is_some());
    }

    #[test]
    fn links_fifos_and_directories_are_errors_and_stay_untouched() {
        let directory = tempfile::tempdir().unwrap();
        let options = FileOptions::default();
        let refused = |name: &str| {
            let path = directory.path().join(name);
            let error = open_lock_file(&path, &options).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
            open_quietly(&path, &options).unwrap_err();
            open_existing(&path, Access::Read, &options).unwrap_err();
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
        let _socket = std::os::unix::net::UnixListener::bind(directory.path().join("socket"));
        for name in ["link", "dangling", "hard", "directory", "fifo", "socket"] {
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
