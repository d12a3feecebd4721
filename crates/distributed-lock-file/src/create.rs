//! Making files and directories that have the right mode from the first moment on.
//!
//! The umask takes permissions away from what is made. So a file gets its name, and a directory its
//! final name, only after its mode was set: another process finds either nothing or what was asked
//! for, also if this one is killed in between.

use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, RawMode, fchmod, fchown, fstat, mkdirat, openat, unlinkat,
};
use rustix::io::Errno;

use crate::options::FileOptions;
use crate::trust::open_to_change;

/// Permissions in the width that the platform has for them.
pub(crate) fn mode(permissions: u32) -> Mode {
    Mode::from_raw_mode(permissions as RawMode)
}

/// Makes the lock file at a path; `None` if there is something already.
pub(crate) fn make_file(path: &Path, options: &FileOptions) -> io::Result<Option<OwnedFd>> {
    let directory = open_to_change(parent(path), options)?;
    let name = path.file_name().unwrap_or_default();
    // Where files without a name cannot be had, this fails, and the other way says what is wrong.
    match make_unnamed_file(&directory, name, options) {
        Ok(made) => Ok(made),
        Err(_) => make_named_file(&directory, name, options),
    }
}

#[cfg(target_os = "linux")]
fn make_unnamed_file(
    directory: &OwnedFd,
    name: &OsStr,
    options: &FileOptions,
) -> io::Result<Option<OwnedFd>> {
    use std::os::fd::AsRawFd;

    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat(directory, ".", flags, mode(options.file_mode))?;
    set_permissions(&file, directory, options)?;
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    match rustix::fs::linkat(rustix::fs::CWD, unnamed, directory, name, AtFlags::SYMLINK_FOLLOW) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::EXIST) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn make_unnamed_file(
    _directory: &OwnedFd,
    _name: &OsStr,
    _options: &FileOptions,
) -> io::Result<Option<OwnedFd>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// For a moment the file has the mode that the umask leaves.
fn make_named_file(
    directory: &OwnedFd,
    name: &OsStr,
    options: &FileOptions,
) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match openat(directory, name, flags, mode(options.file_mode)) {
        Ok(file) => {
            set_permissions(&file, directory, options)?;
            Ok(Some(file))
        }
        Err(Errno::EXIST) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn set_permissions(file: impl AsFd, directory: &OwnedFd, options: &FileOptions) -> io::Result<()> {
    let made = fstat(&file)?;
    if options.is_for_group() {
        let group = fstat(directory)?.st_gid;
        if group != made.st_gid {
            // The users of a directory have its group in common, not the one that this process
            // makes files with. Only a member may set it; others cannot share files by their group.
            let _ = fchown(&file, None, Some(Gid::from_raw(group)));
        }
    }
    if Mode::from_raw_mode(made.st_mode) != mode(options.file_mode) {
        fchmod(&file, mode(options.file_mode))?;
    }
    Ok(())
}

/// Makes a directory with exactly these permissions, in the one that the checked steps lead to. What is
/// there already stays as it is.
pub(crate) fn make_directory(
    path: &Path,
    permissions: u32,
    options: &FileOptions,
) -> io::Result<()> {
    // A path that ends with `..` leads to what is there.
    let Some(name) = path.file_name() else { return Ok(()) };
    let above = open_to_change(parent(path), options)?;
    let random = RandomState::new().hash_one(std::process::id());
    let temporary = format!(".{:.40}.{random:016x}", name.to_string_lossy());
    let temporary = OsStr::new(&temporary);
    mkdirat(&above, temporary, Mode::RWXU)?;
    let moved = set_directory_permissions(&above, temporary, permissions)
        .and_then(|()| Ok(rename_without_replacing(&above, temporary, name)?));
    let Err(error) = moved else { return Ok(()) };
    // It is empty and ours; where that fails, somebody else was quicker to remove it.
    let _ = unlinkat(&above, temporary, AtFlags::REMOVEDIR);
    if error.raw_os_error() == Some(Errno::EXIST.raw_os_error()) {
        return Ok(());
    }
    // A file system, or a system, that cannot rename this way.
    match mkdirat(&above, name, Mode::RWXU) {
        Err(Errno::EXIST) => Ok(()),
        made => made
            .map_err(io::Error::from)
            .and_then(|()| set_directory_permissions(&above, name, permissions)),
    }
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn rename_without_replacing(above: &OwnedFd, from: &OsStr, to: &OsStr) -> rustix::io::Result<()> {
    rustix::fs::renameat_with(above, from, above, to, rustix::fs::RenameFlags::NOREPLACE)
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn rename_without_replacing(
    _above: &OwnedFd,
    _from: &OsStr,
    _to: &OsStr,
) -> rustix::io::Result<()> {
    Err(Errno::NOSYS)
}

/// Sets the permissions of a directory that was made just now, never those of what a link leads to.
fn set_directory_permissions(above: &OwnedFd, name: &OsStr, permissions: u32) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(above, name, flags, Mode::empty()) {
        Ok(directory) => Ok(fchmod(&directory, with_group_bit(&directory, permissions)?)?),
        // The umask has taken our own permissions away.
        Err(Errno::ACCESS) => set_unreadable_permissions(above, name, permissions),
        Err(error) => Err(error.into()),
    }
}

#[cfg(target_os = "linux")]
fn set_unreadable_permissions(above: &OwnedFd, name: &OsStr, permissions: u32) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(above, name, flags, Mode::empty())?;
    let permissions = with_group_bit(&directory, permissions)?;
    Ok(rustix::fs::chmod(format!("/proc/self/fd/{}", directory.as_raw_fd()), permissions)?)
}

#[cfg(not(target_os = "linux"))]
fn set_unreadable_permissions(above: &OwnedFd, name: &OsStr, permissions: u32) -> io::Result<()> {
    Ok(rustix::fs::chmodat(above, name, mode(permissions), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Keeps the bit by which files get the directory's group, which comes from the parent directory.
fn with_group_bit(directory: impl AsFd, permissions: u32) -> io::Result<Mode> {
    let inherited = Mode::from_raw_mode(fstat(directory)?.st_mode) & Mode::SGID;
    Ok(mode(permissions) | inherited)
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn permissions(path: &Path) -> u32 {
        path.symlink_metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn either_way_a_file_is_made_once_with_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let options = FileOptions { file_mode: 0o664, ..FileOptions::default() };
        let opened = open_to_change(directory.path(), &options).unwrap();
        for (name, make) in [
            ("named", make_named_file as fn(&OwnedFd, &OsStr, &FileOptions) -> _),
            #[cfg(target_os = "linux")]
            ("unnamed", make_unnamed_file),
        ] {
            let path = directory.path().join(name);
            assert!(make(&opened, name.as_ref(), &options).unwrap().is_some());
            assert_eq!(permissions(&path), 0o664);
            fs::write(&path, "kept").unwrap();
            assert!(make(&opened, name.as_ref(), &options).unwrap().is_none());
            assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
        }
        let dangling = directory.path().join("dangling");
        symlink("nowhere", &dangling).unwrap();
        assert!(make_file(&dangling, &options).unwrap().is_none());
        assert!(!directory.path().join("nowhere").exists());
    }

    #[test]
    fn a_directory_is_made_once_with_its_mode_and_nothing_is_left() {
        let parent = tempfile::tempdir().unwrap();
        let (path, options) = (parent.path().join("made"), FileOptions::default());
        make_directory(&path, 0o2775, &options).unwrap();
        assert_eq!(permissions(&path), 0o2775);
        fs::write(path.join("file"), "").unwrap();
        make_directory(&path, 0o700, &options).unwrap();
        assert_eq!(permissions(&path), 0o2775);
        let link = parent.path().join("link");
        symlink(&path, &link).unwrap();
        make_directory(&link, 0o700, &options).unwrap();
        assert_eq!(permissions(&path), 0o2775);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2);
    }
}
