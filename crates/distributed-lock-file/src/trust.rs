//! Who else decides where the path to the lock directory leads.
//!
//! Each directory above the lock directory, and each symbolic link on its path, can be exchanged by
//! its owner and by all who may write to the directory that it is in. They can send processes that use
//! one path to different lock files, at any time. So `build()` warns of them, and refuses where that is
//! everybody.
//!
//! They must not get this process to make or remove files in directories that only it may write to. So a symbolic
//! link of another user may only lead to a directory of that user, also after it was switched.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use distributed_lock_core::error::{LockError, LockResult};
use rustix::fs::{FileType, Mode, Stat, fstat};

use crate::options::FileOptions;
use crate::route::{Step, steps, walk};

/// Checks what leads to the lock directory, as far as it is there.
pub(crate) fn check_route(path: &Path, options: &FileOptions) -> LockResult<()> {
    let (steps, complete) = steps(path);
    // The lock directory itself has rules of its own.
    let above = if complete.is_ok() { &steps[..steps.len().saturating_sub(1)] } else { &steps[..] };
    for step in above.iter().filter(|step| !step.is_link()) {
        if step.writable().contains(Mode::WOTH) && !step.is_sticky() {
            return Err(LockError::Config(format!(
                "everybody can write to {} (mode {:04o}), which is on the path to lock directory {}, \
                 and could exchange what is in it; use `chmod o-w` or `chmod +t`, or another directory",
                step.path.display(),
                step.stat.st_mode & 0o7777,
                path.display(),
            )));
        }
    }
    if let (Ok(()), Some(directory)) = (complete, steps.last())
        && let Some(link) = misleading_link(&steps, &directory.stat, options)
    {
        return Err(LockError::Config(format!(
            "lock directory {}: {}",
            path.display(),
            misleads(link, &directory.stat)
        )));
    }
    for step in above {
        if let Some(reason) = step.doubt(&steps, options) {
            tracing::warn!(
                directory = %path.display(),
                on_the_path = %step.path.display(),
                "{reason} can exchange what leads to the lock directory, and so let two holders in; \
                 use a path that only root and this user can change"
            );
        }
    }
    Ok(())
}

/// Opens the directory that a path leads to, to make or remove something in it. Wherever the path leads
/// by now, that happens in this one, to which it led by steps that were checked.
pub(crate) fn open_to_change(path: &Path, options: &FileOptions) -> io::Result<OwnedFd> {
    let (steps, opened) = walk(path);
    let directory = opened?;
    let stat = fstat(&directory)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(rustix::io::Errno::NOTDIR.into());
    }
    match misleading_link(&steps, &stat, options) {
        None => Ok(directory),
        Some(link) => Err(io::Error::new(io::ErrorKind::PermissionDenied, misleads(link, &stat))),
    }
}

/// A link of another user to a directory of a third one, or of this one.
fn misleading_link<'a>(
    steps: &'a [Step],
    directory: &Stat,
    options: &FileOptions,
) -> Option<&'a Step> {
    let is_foreign = |owner| owner != 0 && owner != options.user;
    let links = steps.iter().filter(|step| step.is_link());
    links
        .filter(|link| is_foreign(link.stat.st_uid))
        .find(|link| link.stat.st_uid != directory.st_uid)
}

fn misleads(link: &Step, directory: &Stat) -> String {
    format!(
        "symbolic link {} of user {} leads to a directory of user {}; use a path without it",
        link.path.display(),
        link.stat.st_uid,
        directory.st_uid
    )
}

impl Step {
    fn is_sticky(&self) -> bool {
        Mode::from_raw_mode(self.stat.st_mode).contains(Mode::SVTX)
    }

    /// The bits of those besides the owner who may write to a directory.
    fn writable(&self) -> Mode {
        Mode::from_raw_mode(self.stat.st_mode) & (Mode::WGRP | Mode::WOTH)
    }

    /// Others who can exchange this step or, if it is a directory, what is in it.
    fn doubt(&self, steps: &[Self], options: &FileOptions) -> Option<String> {
        let owner = self.stat.st_uid;
        let is_foreign = owner != 0 && owner != options.user;
        if is_foreign && (!self.is_link() || self.is_in_sticky_directory(steps)) {
            return Some(format!("its owner, user {owner},"));
        }
        let by_group = self.writable().contains(Mode::WGRP) && !self.is_sticky() && !self.is_link();
        (by_group && !options.is_for_group())
            .then(|| format!("the members of its group {}", self.stat.st_gid))
    }

    /// In a directory that others may write to and that is sticky, what is somebody's can only be
    /// exchanged by its owner.
    fn is_in_sticky_directory(&self, steps: &[Self]) -> bool {
        let directory = steps.iter().find(|step| Some(&*step.path) == self.path.parent());
        directory.is_some_and(|directory| directory.is_sticky() && !directory.writable().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

    use super::*;

    /// `<parent>/above/locks`, with this mode for `above`.
    fn scene(mode: u32) -> tempfile::TempDir {
        let parent = tempfile::tempdir().unwrap();
        let above = parent.path().join("above");
        fs::create_dir_all(above.join("locks")).unwrap();
        fs::set_permissions(above, Permissions::from_mode(mode)).unwrap();
        parent
    }

    /// The reasons to doubt what leads to `locks`.
    fn doubts(path: &Path, options: &FileOptions) -> Vec<String> {
        let (steps, complete) = steps(path);
        complete.unwrap();
        steps[..steps.len() - 1].iter().filter_map(|step| step.doubt(&steps, options)).collect()
    }

    #[test]
    fn row_72_a_parent_that_everybody_can_write_to_is_refused_unless_it_is_sticky() {
        let options = FileOptions { shared_directory: true, ..FileOptions::default() };
        for (mode, is_refused) in [(0o777, true), (0o757, true), (0o1777, false), (0o755, false)] {
            let parent = scene(mode);
            for below in ["above/locks", "above/not/there"] {
                let checked = check_route(&parent.path().join(below), &options);
                assert_eq!(checked.is_err(), is_refused, "{mode:o}: {checked:?}");
            }
            symlink(parent.path().join("above"), parent.path().join("link")).unwrap();
            let checked = check_route(&parent.path().join("link/locks"), &options);
            assert_eq!(checked.is_err(), is_refused, "{mode:o}, by a link: {checked:?}");
        }
    }

    #[test]
    fn row_72_a_group_or_owner_that_can_switch_the_path_is_a_reason_to_warn() {
        let options = FileOptions::default();
        let group = FileOptions { file_mode: 0o660, ..FileOptions::default() };
        assert!(doubts(&scene(0o755).path().join("above/locks"), &options).is_empty());
        let writable = scene(0o775);
        let path = writable.path().join("above/locks");
        assert_eq!(doubts(&path, &options).len(), 1);
        assert!(doubts(&path, &group).is_empty(), "the group is trusted with the lock files too");

        let owned = scene(0o755);
        let link = owned.path().join("link");
        symlink("above", &link).unwrap();
        if chown(owned.path().join("above"), Some(65_534), None).is_err() {
            // Only root can give files away.
            return;
        }
        assert_eq!(doubts(&owned.path().join("above/locks"), &options).len(), 1);
        // A link of another user is theirs to exchange only in a sticky directory.
        lchown(&link, Some(65_534), None).unwrap();
        assert_eq!(doubts(&link.join("locks"), &options).len(), 1);
        fs::set_permissions(owned.path(), Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(doubts(&link.join("locks"), &options).len(), 2);
    }

    #[test]
    fn row_72_a_link_of_another_user_leads_to_directories_of_that_user_only() {
        let parent = scene(0o755);
        let (ours, theirs) = (parent.path().join("above"), parent.path().join("theirs"));
        let link = parent.path().join("link");
        let options = FileOptions { shared_directory: true, ..FileOptions::default() };
        fs::create_dir(&theirs).unwrap();
        symlink("above", &link).unwrap();
        open_to_change(&link, &options).unwrap();
        if chown(&theirs, Some(65_534), None).is_err() {
            return;
        }
        lchown(&link, Some(65_534), None).unwrap();
        assert!(check_route(&link, &options).is_err());
        let refused = open_to_change(&link, &options).unwrap_err();
        assert!(refused.to_string().contains("link of user 65534"), "{refused}");
        fs::remove_file(&link).unwrap();
        symlink("theirs", &link).unwrap();
        lchown(&link, Some(65_534), None).unwrap();
        check_route(&link, &options).unwrap();
        open_to_change(&link, &options).unwrap();
        open_to_change(&ours, &options).unwrap();
    }
}
