//! Whom servers run as: PostgreSQL and pgbouncer refuse to run as root.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Accounts without rights, the first that exists.
const NAMES: [&str; 2] = ["postgres", "nobody"];

/// Makes a program run as an ordinary user.
pub(super) fn without_root(program: &mut Command) -> &mut Command {
    match account() {
        Some((user, group)) => program.uid(user).gid(group),
        None => program,
    }
}

/// Gives a file or directory to the user that servers run as.
pub(super) fn give(path: &Path) {
    if let Some((user, group)) = account() {
        let given = chown(path, Some(user), Some(group));
        given.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// The numbers of user and group; none if we are an ordinary user ourselves.
fn account() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let accounts = fs::read_to_string("/etc/passwd").expect("a list of accounts");
    let numbers = |name: &&str| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2).map_while(|field| field.parse().ok());
        Some((fields.next()?, fields.next()?))
    };
    let found = NAMES.iter().find_map(numbers);
    assert!(found.is_some(), "servers must not run as root, and there is none of {NAMES:?}");
    found
}
