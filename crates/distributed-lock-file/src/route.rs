//! The way to a directory: every directory and symbolic link that its path leads through.
//!
//! Each of them decides where the path leads, so each is checked when a provider is built, and watched
//! while files are held.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, openat, readlinkat};

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
    let (steps, end) = walk(path);
    (steps, end.map(drop))
}

/// The same, with what the path leads to. Each step is taken from the one before, by its descriptor where
/// the system can do that: then no exchange on the way can lead to a place by other steps than these.
pub(crate) fn walk(path: &Path) -> (Vec<Step>, io::Result<OwnedFd>) {
    let mut steps = Vec::new();
    let end = follow(path, &mut steps);
    (steps, end)
}

#[cfg(target_os = "linux")]
const STEP: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// A link cannot be opened here; it fails, and is read by its name.
#[cfg(not(target_os = "linux"))]
const STEP: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

fn follow(path: &Path, steps: &mut Vec<Step>) -> io::Result<OwnedFd> {
    let root = || rustix::fs::open("/", STEP, Mode::empty());
    let (mut here, mut opened) = (PathBuf::from("/"), root()?);
    steps.push(Step { stat: fstat(&opened)?, path: here.clone() });
    let mut links = 0;
    // The next component is the last one here.
    let mut ahead = reversed(path);
    while let Some(name) = ahead.pop() {
        if name == ".." {
            here.pop();
            opened = openat(&opened, "..", STEP, Mode::empty())?;
            continue;
        }
        let next = here.join(&name);
        let (stat, end) = step(&opened, &name)?;
        let step = Step { stat, path: next };
        match end {
            End::Link(target) => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(rustix::io::Errno::LOOP.into());
                }
                if target.is_absolute() {
                    (here, opened) = (PathBuf::from("/"), root()?);
                }
                ahead.extend(reversed(&target));
            }
            End::Other(next) => {
                here.clone_from(&step.path);
                opened = next;
            }
        }
        steps.push(step);
    }
    Ok(opened)
}

/// What is at the end of one step.
enum End {
    Link(PathBuf),
    Other(OwnedFd),
}

#[cfg(target_os = "linux")]
fn step(here: &OwnedFd, name: &OsStr) -> io::Result<(Stat, End)> {
    let next = openat(here, name, STEP, Mode::empty())?;
    let stat = fstat(&next)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        return Ok((stat, End::Other(next)));
    }
    // The link that was opened, whatever has its name by now.
    let target = readlinkat(&next, "", Vec::new())?;
    Ok((stat, End::Link(OsString::from_vec(target.into_bytes()).into())))
}

#[cfg(not(target_os = "linux"))]
fn step(here: &OwnedFd, name: &OsStr) -> io::Result<(Stat, End)> {
    use rustix::fs::{AtFlags, statat};

    let stat = statat(here, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        // Fails if it has become a link meanwhile.
        let next = openat(here, name, STEP, Mode::empty())?;
        return Ok((fstat(&next)?, End::Other(next)));
    }
    let target = readlinkat(here, name, Vec::new())?;
    Ok((stat, End::Link(OsString::from_vec(target.into_bytes()).into())))
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
