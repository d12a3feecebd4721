//! Where the locks are if nothing names a lock service: one directory for each user.

use std::fmt;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

const PARENT: &str = "/var/tmp";

/// The directory of this user: the same in logins, cron jobs and services, and across reboots.
pub(crate) fn path() -> PathBuf {
    format!("{PARENT}/distributed-lock-{}", rustix::process::geteuid().as_raw()).into()
}

/// Creates the directory, or checks that the one there is this user's own.
///
/// Anybody can create the name before we do, so what is there is trusted only if it is ours.
/// Whether others may write to it is checked where it is used, as for every directory.
pub(crate) fn prepare(path: &Path) -> Result<(), NotOurs> {
    let refuse = |reason| Err(NotOurs { path: path.to_owned(), reason });
    let created = DirBuilder::new().mode(0o700).create(path);
    // It is ours, so in a sticky directory nobody can exchange it before the umask is undone.
    match created.and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(0o700))) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return refuse(Reason::Io(error));
        }
        // What is there now is looked at in any case.
        _ => {}
    }
    match path.symlink_metadata() {
        Err(error) => refuse(Reason::Io(error)),
        Ok(found) if found.is_symlink() => refuse(Reason::Link),
        Ok(found) if !found.is_dir() => refuse(Reason::NoDirectory),
        Ok(found) if found.uid() != rustix::process::geteuid().as_raw() => {
            refuse(Reason::Owner(found.uid()))
        }
        Ok(_) => Ok(()),
    }
}

/// Why others most likely see another directory at the same path, if they do.
///
/// Services and containers often have a `/var/tmp` of their own.
pub(crate) fn private_mount() -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    private_in(&mounts)
}

/// Lines are `id parent major:minor root point options ... - type source ...`.
fn private_in(mounts: &str) -> Option<String> {
    let line = mounts.lines().rev().find(|line| line.split(' ').nth(4) == Some(PARENT))?;
    let root = line.split(' ').nth(3)?;
    let kind = line.split_once(" - ")?.1.split(' ').next()?;
    // A file system of its own for the machine is mounted by its root, and is kept on a disk.
    match (root, kind) {
        (_, "tmpfs" | "ramfs") => Some(format!("{PARENT} is a {kind} of its own")),
        ("/", _) => None,
        (root, _) => Some(format!("{PARENT} is {root} of another file system")),
    }
}

/// The default directory cannot be used.
#[derive(Debug)]
pub(crate) struct NotOurs {
    path: PathBuf,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    Link,
    NoDirectory,
    Owner(u32),
    Io(io::Error),
}

impl fmt::Display for NotOurs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the default directory {} ", self.path.display())?;
        match &self.reason {
            Reason::Link => f.write_str("is a symbolic link")?,
            Reason::NoDirectory => f.write_str("is not a directory")?,
            Reason::Owner(uid) => write!(f, "belongs to another user (uid {uid})")?,
            Reason::Io(_) => f.write_str("cannot be created or read")?,
        }
        f.write_str("; remove it, or say with --url file:///DIRECTORY where the locks are")
    }
}

impl std::error::Error for NotOurs {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            Reason::Io(error) => Some(error),
            Reason::Link | Reason::NoDirectory | Reason::Owner(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn refusal(path: &Path) -> Reason {
        prepare(path).unwrap_err().reason
    }

    #[test]
    fn it_is_created_for_its_owner_only_and_then_kept() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("locks");
        prepare(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        prepare(&path).unwrap();
    }

    #[test]
    fn a_mount_of_its_own_is_noticed() {
        let disk = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
        assert_eq!(private_in(disk), None);
        let own_disk = format!("{disk}30 22 8:2 / /var/tmp rw - ext4 /dev/sda2 rw\n");
        assert_eq!(private_in(&own_disk), None);
        let service =
            "31 22 8:1 /var/tmp/systemd-private-1/tmp /var/tmp rw shared:1 - ext4 /dev/sda1 rw\n";
        let private = private_in(&format!("{own_disk}{service}")).unwrap();
        assert!(private.contains("systemd-private-1"), "{private}");
        let memory = "32 22 0:50 / /var/tmp rw - tmpfs tmpfs rw\n";
        assert!(private_in(&format!("{disk}{memory}")).is_some());
    }

    #[test]
    fn links_are_refused_even_to_a_directory_of_ours() {
        let parent = tempfile::tempdir().unwrap();
        let (target, path) = (parent.path().join("target"), parent.path().join("locks"));
        symlink(&target, &path).unwrap();
        assert!(matches!(refusal(&path), Reason::Link));
        prepare(&target).unwrap();
        assert!(matches!(refusal(&path), Reason::Link));
    }

    #[test]
    fn other_things_are_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("locks");
        std::fs::write(&path, "").unwrap();
        assert!(matches!(refusal(&path), Reason::NoDirectory));
        assert!(matches!(refusal(&parent.path().join("a/b")), Reason::Io(_)));
    }

    #[test]
    fn directories_of_others_are_refused() {
        // Who runs the tests either owns `/` or does not; a directory can be given away by root.
        let parent = tempfile::tempdir().unwrap();
        let path = if rustix::process::geteuid().is_root() {
            let path = parent.path().join("locks");
            prepare(&path).unwrap();
            std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
            path
        } else {
            PathBuf::from("/")
        };
        let error = prepare(&path).unwrap_err();
        assert!(matches!(error.reason, Reason::Owner(_)), "{error}");
        assert!(error.to_string().contains("--url"), "{error}");
    }
}
