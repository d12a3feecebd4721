//! The way to a directory: every directory and symbolic link that its path leads through.
//!
//! Each of them decides where the path leads, so each is checked when a provider is built, and watched
//! while files are held.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Stat, lstat, readlink};

/// As many as the kernel follows.
const MOST_LINKS: usize = 40;

/// A directory or symbolic link on the way, by a path that has no links in it.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) path: PathBuf,
    pub(crate) stat: Stat,
}

impl Step {
    pub(crate) fn is_link(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::Symlink
    }
}

/// The steps from the root to where an absolute path leads, both included. Where the path ends too
/// early, the steps so far and the reason.
pub(crate) fn steps(path: &Path) -> (Vec<Step>, io::Result<()>) {
    let mut steps = Vec::new();
    let followed = follow(path, &mut steps);
    (steps, followed)
}

fn follow(path: &Path, steps: &mut Vec<Step>) -> io::Result<()> {
    let mut here = PathBuf::from("/");
    steps.push(Step { stat: lstat(&here)?, path: here.clone() });
    let mut links = 0;
    // The next component is the last one here.
    let mut ahead = reversed(path);
    while let Some(name) = ahead.pop() {
        if name == ".." {
            here.pop();
            continue;
        }
        let next = here.join(name);
        let step = Step { stat: lstat(&next)?, path: next };
        if step.is_link() {
            links += 1;
            if links > MOST_LINKS {
                return Err(rustix::io::Errno::LOOP.into());
            }
            let target = readlink(&step.path, Vec::new())?;
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            if target.is_absolute() {
                here = PathBuf::from("/");
            }
            ahead.extend(reversed(&target));
        } else {
            here.clone_from(&step.path);
        }
        steps.push(step);
    }
    Ok(())
}

/// The names of a path, the first one last.
fn reversed(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// The names of the steps below the parent.
    fn names(parent: &Path, path: &str) -> (Vec<String>, io::Result<()>) {
        let (steps, followed) = steps(&parent.join(path));
        let below = steps.iter().filter_map(|step| step.path.strip_prefix(parent).ok());
        let names = below.map(|path| path.display().to_string()).filter(|name| !name.is_empty());
        (names.collect(), followed)
    }

    #[test]
    fn every_directory_and_link_is_a_step() {
        let parent = tempfile::tempdir().unwrap();
        let parent = parent.path().canonicalize().unwrap();
        fs::create_dir_all(parent.join("a/b")).unwrap();
        symlink("a", parent.join("link")).unwrap();
        symlink(parent.join("link/b"), parent.join("outer")).unwrap();
        let (seen, followed) = names(&parent, "outer/../b");
        followed.unwrap();
        assert_eq!(seen, ["outer", "link", "a", "a/b", "a/b"]);
    }

    #[test]
    fn a_path_that_ends_too_early_has_the_steps_so_far() {
        let parent = tempfile::tempdir().unwrap();
        let parent = parent.path().canonicalize().unwrap();
        symlink("loop", parent.join("loop")).unwrap();
        symlink("nowhere", parent.join("dangling")).unwrap();
        let (seen, followed) = names(&parent, "dangling/x");
        assert_eq!(seen, ["dangling"]);
        assert_eq!(followed.unwrap_err().kind(), io::ErrorKind::NotFound);
        let (seen, followed) = names(&parent, "loop");
        assert_eq!(seen.len(), MOST_LINKS);
        assert!(followed.is_err());
    }
}
