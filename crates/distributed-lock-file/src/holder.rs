//! Who holds a file lock: what the lock file says, checked against what the kernel says.

use std::fs::File;
use std::io;
use std::sync::Arc;

use distributed_lock_core::Holder;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::key::{FileKey, LockPath};
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
    of_file(&file, &KernelLocks::now())
}

/// One of the holders of a semaphore's permits. Nothing waits for the closing of a slot.
pub(crate) async fn of_a_permit(
    key: &FileKey,
    permits: u32,
    options: &FileOptions,
) -> io::Result<Option<Holder>> {
    let locks = KernelLocks::now();
    for number in 0..permits {
        if let Some(slot) = open_existing(key.slot(number), Access::Read, options)?
            && let Some(holder) = of_file(&slot.file, &locks)?
        {
            return Ok(Some(holder));
        }
        // Thousands of slots must not hold up the runtime.
        tokio::task::consume_budget().await;
    }
    Ok(None)
}

fn of_file(file: &File, locks: &KernelLocks) -> io::Result<Option<Holder>> {
    let written = record::read(file);
    Ok(match locks.of(file)? {
        LockedBy::Process(pid) if written.as_ref().is_some_and(|w| w.pid == Some(pid)) => written,
        LockedBy::Process(pid) => Some(unrecorded(pid)),
        // Locks of processes that this one cannot see, in another container, are not listed either. One
        // that it sees would be.
        LockedBy::Nobody => written.filter(|written| !is_here(written) && !has_run_here(written)),
        // It may hold the lock as long as it runs.
        LockedBy::Unknown => written.filter(|written| is_here(written) || !has_run_here(written)),
    })
}

/// A process that has written nothing, such as `flock(1)`.
fn unrecorded(pid: u32) -> Holder {
    let mut holder = Holder::default();
    holder.pid = Some(pid);
    holder.host = Some(record::host());
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    holder.command = name.map(|name| record::one_line(name.trim_end()));
    holder
}

/// Whether the recorded process runs, in this container.
fn is_here(holder: &Holder) -> bool {
    let pid = holder.pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}

/// Whether the recorded process, which may have ended, was one of this host or container.
fn has_run_here(holder: &Holder) -> bool {
    holder.host.as_ref() == Some(&record::host())
}

#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux lists file locks"))]
enum LockedBy {
    Nobody,
    Process(u32),
    /// The kernel does not tell.
    Unknown,
}

/// What the kernel says about who has locked what, at one moment.
#[cfg(not(target_os = "linux"))]
struct KernelLocks;

#[cfg(not(target_os = "linux"))]
impl KernelLocks {
    fn now() -> Self {
        Self
    }

    fn of(&self, _file: &File) -> io::Result<LockedBy> {
        Ok(LockedBy::Unknown)
    }
}

/// Room for some hundred lines of `/proc/locks`.
#[cfg(target_os = "linux")]
const LOCKS: usize = 1 << 15;

/// What `/proc/locks` says at one moment, if it can be read. Its lines are like
/// `12: FLOCK  ADVISORY  WRITE 4711 fe:00:1050646 0 EOF`; those who wait have `->` before `FLOCK`.
#[cfg(target_os = "linux")]
struct KernelLocks(Option<String>);

#[cfg(target_os = "linux")]
impl KernelLocks {
    fn now() -> Self {
        // In large pieces: between two of them, a change of other locks can hide some.
        let mut locks = Vec::with_capacity(LOCKS);
        let read = File::open("/proc/locks")
            .and_then(|mut file| io::Read::read_to_end(&mut file, &mut locks));
        Self(read.ok().and_then(|_| String::from_utf8(locks).ok()))
    }

    fn of(&self, file: &File) -> io::Result<LockedBy> {
        let Some(locks) = &self.0 else { return Ok(LockedBy::Unknown) };
        let inode = crate::open::Inode::of_file(file)?.in_proc_locks();
        let line = locks.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
        let held = line.filter(|f| f.get(1) == Some(&"FLOCK")).find(|f| f.get(5) == Some(&&*inode));
        Ok(match held.and_then(|fields| fields.get(4)?.parse().ok()) {
            Some(pid) if pid > 0 => LockedBy::Process(pid),
            Some(_) => LockedBy::Unknown,
            None => LockedBy::Nobody,
        })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::path::Path;

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
        assert!(seen.host.is_some() && seen.command.is_some());
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

    #[test]
    fn a_recorded_process_that_has_ended_is_no_holder() {
        let directory = tempfile::tempdir().unwrap();
        let key = FileKey::lock(directory.path(), "stem".into());
        let open = open_lock_file(key.first(), &FileOptions::default()).unwrap();
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        let pid = ended.id();
        ended.wait().unwrap();
        let written = |host: &str| {
            let line = format!("since=1795943231963 pid={pid} host={host}");
            std::fs::write(key.first(), format!("{line:<255}\n")).unwrap();
            record::read(&open.file).unwrap();
        };
        let unlisted = [KernelLocks(Some(String::new())), KernelLocks(None)];
        written(&record::host());
        for locks in &unlisted {
            assert_eq!(of_file(&open.file, locks).unwrap(), None);
        }
        // In a container whose processes are not to be seen here.
        written("another-container");
        for locks in &unlisted {
            assert_eq!(of_file(&open.file, locks).unwrap().unwrap().pid, Some(pid));
        }
    }
}
