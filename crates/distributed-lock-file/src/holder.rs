//! Who holds a file lock: what the lock file says, checked against what the kernel says.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use distributed_lock_core::Holder;

use crate::key::LockPath;
use crate::open::{Access, open_existing};
use crate::options::FileOptions;
use crate::record;

/// The holder of the lock file at a path. `waiting` is the file as somebody who waits for it has it open:
/// to open it again, only to look, would wake everybody who waits when it is closed.
pub(crate) fn of(
    path: &LockPath,
    waiting: Option<Arc<File>>,
    options: &FileOptions,
) -> io::Result<Option<Holder>> {
    let file = match waiting {
        Some(file) => file,
        None => match open_existing(path, Access::Read, options)? {
            Some(open) => open.file,
            None => return Ok(None),
        },
    };
    let written = record::read(&file);
    match locked_by(&file)? {
        // Locks of processes that this one cannot see, in another container, are not listed either.
        LockedBy::Nobody if written.as_ref().is_none_or(is_visible) => Ok(None),
        LockedBy::Nobody => Ok(written),
        LockedBy::Unknown => Ok(written),
        LockedBy::Process(pid) if written.as_ref().is_some_and(|w| w.pid == Some(pid)) => {
            Ok(written)
        }
        LockedBy::Process(pid) => {
            let mut holder = Holder::default();
            holder.pid = Some(pid);
            Ok(Some(holder))
        }
    }
}

#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux lists file locks"))]
enum LockedBy {
    Nobody,
    Process(u32),
    /// The kernel does not tell.
    Unknown,
}

#[cfg(not(target_os = "linux"))]
fn locked_by(_file: &File) -> io::Result<LockedBy> {
    Ok(LockedBy::Unknown)
}

/// Reads `/proc/locks`, whose lines are like
/// `12: FLOCK  ADVISORY  WRITE 4711 fe:00:1050646 0 EOF`; those who wait have `->` before `FLOCK`.
#[cfg(target_os = "linux")]
fn locked_by(file: &File) -> io::Result<LockedBy> {
    let Ok(locks) = std::fs::read_to_string("/proc/locks") else { return Ok(LockedBy::Unknown) };
    let inode = crate::open::Inode::of_file(file)?.in_proc_locks();
    let line = locks.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let held = line.filter(|f| f.get(1) == Some(&"FLOCK")).find(|f| f.get(5) == Some(&&*inode));
    Ok(match held.and_then(|fields| fields.get(4)?.parse().ok()) {
        Some(pid) if pid > 0 => LockedBy::Process(pid),
        Some(_) => LockedBy::Unknown,
        None => LockedBy::Nobody,
    })
}

fn is_visible(holder: &Holder) -> bool {
    holder.pid.is_some_and(|pid| Path::new("/proc").join(pid.to_string()).exists())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::open::open_lock_file;
    use crate::record::Identity;

    #[test]
    fn a_line_is_believed_unless_the_kernel_names_somebody_else() {
        let directory = tempfile::tempdir().unwrap();
        let key = crate::key::FileKey::lock(directory.path(), "stem".into());
        let (key, options) = (key.first(), FileOptions::default());
        assert_eq!(of(key, None, &options).unwrap(), None);
        let open = open_lock_file(key, &options).unwrap();
        open.file.lock().unwrap();
        let this = Some(std::process::id());
        let seen = of(key, None, &options).unwrap().unwrap();
        assert_eq!((seen.pid, seen.label), (this, None), "without a line, by the kernel alone");
        Identity::of_this_process(Some("me")).write(&open.file);
        let seen = of(key, Some(Arc::clone(&open.file)), &options).unwrap().unwrap();
        assert_eq!((seen.pid, seen.label.as_deref()), (this, Some("me")));
        drop(open);
        assert_eq!(of(key, None, &options).unwrap(), None, "the line stays, the lock does not");

        let command = [
            "-n",
            AsRef::<Path>::as_ref(key).to_str().unwrap(),
            "sh",
            "-c",
            "echo locked; read end",
        ];
        let mut other = std::process::Command::new("flock")
            .args(command)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut locked = String::new();
        let mut output = io::BufReader::new(other.stdout.take().unwrap());
        io::BufRead::read_line(&mut output, &mut locked).unwrap();
        let seen = of(key, None, &options).unwrap().unwrap();
        assert_eq!((seen.pid, seen.label), (Some(other.id()), None), "the line is stale");
        drop(other.stdin.take());
        other.wait().unwrap();
    }
}
