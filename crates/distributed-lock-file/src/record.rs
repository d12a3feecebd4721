//! The content of a lock file: one line that says who holds it, for people who wait.
//!
//! The line is always [`LENGTH`] bytes long and written in place, so that the file is never
//! truncated: `since=` (milliseconds since 1970, 13 digits), `pid=`, `host=`, `user=`, `command=` (the
//! program's name) and, last because it may contain spaces, `label=`, separated by spaces; then spaces up
//! to the closing newline. The line
//! informs; it decides nothing. It stays when the lock is released, and other programs that lock the
//! file write none, so it is only believed while the kernel does not name somebody else.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use distributed_lock_core::Holder;

use crate::clock::since_1970;

/// The length of the line in bytes, newline included.
pub(crate) const LENGTH: usize = 256;

/// The longest name of a user or program that is written whole, in bytes.
const LONGEST_NAME: usize = 32;

const SINCE: &str = "since=";
const SINCE_DIGITS: usize = 13;

/// Who this process is, in every lock file that it writes: a line whose time is still to be set.
#[derive(Debug, Clone)]
pub(crate) struct Identity([u8; LENGTH]);

impl Identity {
    pub(crate) fn of_this_process(label: Option<&str>) -> Self {
        let (pid, host, user) = (std::process::id(), host(), one_word(&user()));
        let command = program().map(|name| format!(" command={}", one_word(&name)));
        let command = command.unwrap_or_default();
        let label = label.map(|label| format!(" label={}", one_line(label))).unwrap_or_default();
        let text = format!(
            "{SINCE}{:0SINCE_DIGITS$} pid={pid} host={host} user={user}{command}{label}",
            0
        );
        let mut line = [b' '; LENGTH];
        let end = floor_char_boundary(&text, LENGTH - 1);
        line[..end].copy_from_slice(&text.as_bytes()[..end]);
        line[LENGTH - 1] = b'\n';
        Self(line)
    }

    /// Says in the file that this process holds the lock, from now on.
    ///
    /// Only information: a file that cannot be written still locks.
    pub(crate) fn write(&self, file: &File) {
        let mut line = self.0;
        let mut millis = u64::try_from(since_1970().as_millis()).unwrap_or(0);
        for digit in line[SINCE.len()..SINCE.len() + SINCE_DIGITS].iter_mut().rev() {
            *digit = b'0' + u8::try_from(millis % 10).unwrap_or(0);
            millis /= 10;
        }
        if let Err(error) = file.write_all_at(&line, 0) {
            tracing::debug!(%error, "the holder's line was not written");
        }
    }
}

/// Reads who has held the lock last, if the file says so.
pub(crate) fn read(file: &File) -> Option<Holder> {
    let mut line = [0; LENGTH];
    file.read_exact_at(&mut line, 0).ok()?;
    parse(std::str::from_utf8(&line).ok()?)
}

fn parse(line: &str) -> Option<Holder> {
    let line = line.strip_prefix(SINCE).map(|_| line)?.trim_end();
    let (fields, label) = match line.split_once(" label=") {
        // Others may have written it: no control characters for those who show it.
        Some((fields, label)) => (fields, Some(one_line(label))),
        None => (line, None),
    };
    let mut holder = Holder::default();
    holder.label = label;
    for field in fields.split(' ') {
        match field.split_once('=')? {
            ("pid", pid) => holder.pid = Some(pid.parse().ok()?),
            ("host", host) => holder.host = Some(host.to_owned()),
            ("user", user) => holder.user = Some(user.to_owned()),
            ("command", command) => holder.command = Some(command.to_owned()),
            ("since", millis) => {
                let since = Duration::from_millis(millis.parse().ok()?);
                holder.since = SystemTime::UNIX_EPOCH.checked_add(since);
            }
            _ => {}
        }
    }
    Some(holder)
}

/// The name of this host or container, as it is recorded.
pub(crate) fn host() -> String {
    one_word(&rustix::system::uname().nodename().to_string_lossy())
}

/// As the environment names the user of this process, or its number.
fn user() -> String {
    let named = ["USER", "LOGNAME"].into_iter().filter_map(|name| std::env::var(name).ok());
    let number = || rustix::process::geteuid().as_raw().to_string();
    named.map(|name| cut(&name)).find(|name| !name.is_empty()).unwrap_or_else(number)
}

/// The program's name without its directory.
fn program() -> Option<String> {
    let program = std::env::args_os().next()?;
    let name = std::path::Path::new(&program).file_name()?.to_string_lossy().into_owned();
    Some(cut(&name))
}

/// Leaves room for the label.
fn cut(name: &str) -> String {
    name[..floor_char_boundary(name, LONGEST_NAME)].to_owned()
}

pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn one_word(text: &str) -> String {
    one_line(text).replace(' ', "_")
}

/// The longest prefix of at most `limit` bytes that ends between characters.
fn floor_char_boundary(text: &str, limit: usize) -> usize {
    (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(read(&file), None);
        Identity::of_this_process(Some("nightly\nbackup")).write(&file);
        let holder = read(&file).unwrap();
        assert_eq!(holder.pid, Some(std::process::id()));
        assert_eq!(holder.label.as_deref(), Some("nightly backup"));
        assert!(holder.host.is_some() && holder.user.is_some() && holder.command.is_some());
        let held = holder.since.unwrap().elapsed().unwrap();
        assert!(held < Duration::from_secs(60), "{held:?}");
        assert_eq!(file.metadata().unwrap().len(), LENGTH as u64);
    }

    #[test]
    fn a_long_label_is_cut_between_characters() {
        let file = tempfile::tempfile().unwrap();
        Identity::of_this_process(Some(&"é".repeat(500))).write(&file);
        let label = read(&file).unwrap().label.unwrap();
        assert!(label.len() > 100 && label.chars().all(|c| c == 'é'));
        assert_eq!(file.metadata().unwrap().len(), LENGTH as u64);
    }

    #[test]
    fn the_content_of_other_programs_is_nobody() {
        assert_eq!(parse("4711\n"), None);
        let label = parse("since=1 pid=1 host=a label=\u{1b}[2Jx").unwrap().label;
        assert_eq!(label.as_deref(), Some(" [2Jx"));
        assert_eq!(parse("since=1 pid=x"), None);
        assert_eq!(parse("pid=1 host=a since=1"), None);
    }
}
