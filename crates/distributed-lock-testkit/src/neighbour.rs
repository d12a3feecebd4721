//! Another user who swaps what is in and above a lock directory, at random.
//!
//! A [`Street`] is a lock directory and the way to it, all of which belong to a neighbour, beside a
//! folder that does not. [`Street::swap`] is what the neighbour does, in a process of its own, and as
//! another user where the tests run as root. Afterwards [`Street::is_untouched`] says whether anybody
//! was made to write where the neighbour may not.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};

use crate::worker::random::Random;

/// The user that a neighbour is where the tests run as root.
pub const NEIGHBOUR: u32 = 65_534;

const SECRET: &str = "precious";

/// What only the tests' own user may write to, and what the neighbour may.
#[derive(Debug)]
pub struct Street {
    root: PathBuf,
}

impl Street {
    /// Makes everything in an empty directory. The lock directory is for all users, and sticky.
    ///
    /// # Errors
    /// Of making it.
    pub fn create(root: impl Into<PathBuf>) -> io::Result<Self> {
        let street = Self::at(root);
        fs::set_permissions(&street.root, Permissions::from_mode(0o755))?;
        fs::create_dir(street.private())?;
        fs::write(street.private().join("secret"), SECRET)?;
        fs::create_dir(street.way())?;
        street.tidy()?;
        if street.is_another_user() {
            street.give_away(&street.way())?;
        }
        Ok(street)
    }

    /// The street that is in a directory.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The path that users lock in: by a link, a directory and the lock directory, all of which the
    /// neighbour can exchange.
    #[must_use]
    pub fn lock_directory(&self) -> PathBuf {
        self.way().join("link/above/locks")
    }

    /// The user whom the neighbour must run as to be another one; `None` if that cannot be.
    #[must_use]
    pub fn neighbour(&self) -> Option<u32> {
        self.is_another_user().then_some(NEIGHBOUR)
    }

    /// Whether nothing was written where the neighbour may not write.
    ///
    /// # Errors
    /// Of looking.
    pub fn is_untouched(&self) -> io::Result<bool> {
        let entries = fs::read_dir(self.private())?.count();
        Ok(entries == 1 && fs::read_to_string(self.private().join("secret"))? == SECRET)
    }

    /// Puts everything back as it was at first: another lock directory, with nothing in it.
    ///
    /// # Errors
    /// Of doing so.
    pub fn tidy(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.way())? {
            remove(&entry?.path());
        }
        for house in ["first", "second"] {
            fs::create_dir_all(self.way().join(house).join("above/locks"))?;
            let locks = self.way().join(house).join("above/locks");
            fs::set_permissions(locks, Permissions::from_mode(0o1777))?;
        }
        symlink("first", self.way().join("link"))?;
        if self.is_another_user() { self.give_away(&self.way()) } else { Ok(()) }
    }

    /// Swaps something, as often as `goes_on` says. Half of the time it is put right again at once.
    /// What fails, because somebody else was quicker, is no matter. How many swaps took place.
    pub fn swap(&self, seed: u64, goes_on: impl Fn() -> bool) -> u64 {
        let mut random = Random::new(seed);
        let mut swaps = 0;
        while goes_on() {
            let done = self.swap_one(&mut random);
            swaps += u64::from(done.is_ok());
            if random.percent(10) {
                // All is well for a moment, so that somebody gets a lock.
                let _ = self.tidy();
                std::thread::park_timeout(random.up_to(std::time::Duration::from_millis(30)));
            } else if random.percent(50) {
                std::thread::park_timeout(random.up_to(std::time::Duration::from_millis(3)));
            }
        }
        swaps
    }

    fn swap_one(&self, random: &mut Random) -> io::Result<()> {
        let locks = self.lock_directory();
        match random.below(8) {
            0 => self.switch("link", random),
            1 => exchange(&self.way().join("first"), &self.way().join("second")),
            2 => put_in_place(&locks, random, &self.private()),
            3 => put_in_place(&self.way().join("link/above"), random, &self.private()),
            _ => {
                let entries = fs::read_dir(&locks)?.filter_map(|entry| Some(entry.ok()?.path()));
                let files: Vec<PathBuf> = entries.collect();
                let one = random.pick(&files).ok_or(io::ErrorKind::NotFound)?;
                match random.below(3) {
                    0 => fs::remove_file(one),
                    1 => exchange(one, random.pick(&files).unwrap_or(one)),
                    _ => put_in_place(one, random, &self.private()),
                }
            }
        }
    }

    /// Leads a link elsewhere, in one step.
    fn switch(&self, link: &str, random: &mut Random) -> io::Result<()> {
        let private = self.private();
        let targets = [Path::new("first"), Path::new("second"), &private, Path::new("nowhere")];
        let new = self.way().join("new");
        remove(&new);
        symlink(random.pick(&targets).unwrap_or(&targets[0]), &new)?;
        fs::rename(new, self.way().join(link))
    }

    fn private(&self) -> PathBuf {
        self.root.join("private")
    }

    fn way(&self) -> PathBuf {
        self.root.join("way")
    }

    fn is_another_user(&self) -> bool {
        rustix::process::geteuid().is_root()
    }

    fn give_away(&self, path: &Path) -> io::Result<()> {
        std::os::unix::fs::lchown(path, Some(NEIGHBOUR), Some(NEIGHBOUR))?;
        if path.symlink_metadata()?.is_dir() {
            for entry in fs::read_dir(path)? {
                self.give_away(&entry?.path())?;
            }
        }
        Ok(())
    }
}

fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

/// Puts something else where a file or directory is, which is moved aside.
fn put_in_place(path: &Path, random: &mut Random, private: &Path) -> io::Result<()> {
    let aside = path.with_extension("aside");
    remove(&aside);
    fs::rename(path, &aside)?;
    let mode = Mode::from_raw_mode(0o666);
    match random.below(8) {
        0 => symlink(private.join("secret"), path),
        1 => symlink(private, path),
        2 => symlink(private.join("made"), path),
        3 => Ok(mknodat(CWD, path, FileType::Fifo, mode, 0)?),
        4 => fs::create_dir(path),
        5 => UnixListener::bind(path).map(drop),
        6 => fs::hard_link(&aside, path),
        _ => {
            let content = match random.below(3) {
                0 => vec![0; 21],
                1 => format!("since=1 pid=1 host=x label=\u{1b}[2J{:200}\n", "").into_bytes(),
                _ => Vec::new(),
            };
            fs::write(path, content)?;
            fs::set_permissions(path, Permissions::from_mode(0o666))
        }
    }?;
    if random.percent(50) {
        let _ = fs::rename(&aside, path);
    }
    Ok(())
}

/// Removes whatever is there; what cannot be removed stays.
fn remove(path: &Path) {
    let _ = fs::remove_dir_all(path).or_else(|_| fs::remove_file(path));
}
