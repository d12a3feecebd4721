//! Starting the reaper, and the side of `dlock` of their stream.
#![cfg(target_os = "linux")]

use std::ffi::OsString;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream as StdStream;

use nix::unistd::{Pid, getpgrp, getsid};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use tokio::net::UnixStream;

use super::link::{Deadline, LENGTH, READ, Report};
use super::spawn::{self, Setting};
use super::{Plan, not_started, reaper, table};
use crate::exit::{Failure, UNAVAILABLE};

/// A reaper that runs.
#[derive(Debug)]
pub(crate) struct Reaper {
    pid: Pid,
    stream: UnixStream,
}

impl Reaper {
    /// Starts a reaper that starts the command; returns the command's process id, too.
    pub(crate) async fn start(plan: &Plan) -> Result<(Self, Pid), Failure> {
        let reaper = Self::spawn(plan).map_err(|error| {
            let doing = "cannot start the second process of dlock, which ends the command if dlock is \
                         killed";
            Failure::new(UNAVAILABLE, doing).because(&error)
        })?;
        match reaper.report().await {
            Some(Report::Started(pid)) => Ok((reaper, Pid::from_raw(pid))),
            Some(Report::NotStarted(error)) => {
                Err(not_started(&plan.words, nix::errno::Errno::from_raw(error)))
            }
            _ => Err(Failure::new(UNAVAILABLE, "the second process of dlock was killed")),
        }
    }

    fn spawn(plan: &Plan) -> io::Result<Self> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let stream = UnixStream::from_std(ours)?;
        // The reaper's own input is the stream, so what the command reads is another number.
        let stdin = fcntl_dupfd_cloexec(io::stdin(), 3)?;
        fcntl_setfd(&stdin, FdFlags::empty())?;
        let words = reaper::words(stdin.as_raw_fd(), getpgrp(), &plan.words);
        let setting = Setting {
            group: (!stops_would_last()).then_some(Pid::from_raw(0)),
            stdin: Some(theirs.as_raw_fd()),
        };
        let pid = spawn::spawn_program(&program(), &words, &plan.environment, setting)?;
        Ok(Self { pid, stream })
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// The next report, or `None` at the end of the stream.
    ///
    /// Nothing is missed if the future is dropped.
    pub(crate) async fn report(&self) -> Option<Report> {
        loop {
            self.stream.readable().await.ok()?;
            // Messages are written and read whole: they are small, and the only thing in the stream.
            let mut message = [0; LENGTH];
            match self.stream.try_read(&mut message) {
                Ok(LENGTH) => {
                    let report = Report::decode(message);
                    if let Some(Report::Ended(_)) = report {
                        // There is room: the reaper reads all the time.
                        let _ = self.stream.try_write(&READ);
                    }
                    return report;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => return None,
            }
        }
    }

    pub(crate) fn extend(&self, deadline: Deadline) {
        // A stream that is full holds a deadline that is a little older.
        let _ = self.stream.try_write(&deadline.encode());
    }
}

/// This very program, even if its file was replaced, or as it was started where /proc is not mounted.
fn program() -> OsString {
    let own = "/proc/self/exe";
    if std::fs::symlink_metadata(own).is_ok() {
        return own.into();
    }
    OsString::from_vec(rustix::param::linux_execfn().to_bytes().to_vec())
}

/// Whether a process group of its own for the command's parent would change what Ctrl-Z does.
///
/// The kernel lets a terminal stop only groups that have a parent elsewhere in the session, who can
/// continue them: not what `ssh -t` or a container runs directly. The reaper would be such a parent.
fn stops_would_last() -> bool {
    std::fs::File::open("/dev/tty").is_ok() && is_orphaned()
}

/// Whether no ancestor of this process is in its session and not in its group.
fn is_orphaned() -> bool {
    let (session, group) = (getsid(None), getpgrp());
    let mut ancestor = Some(nix::unistd::getppid());
    while let Some(pid) = ancestor.filter(|pid| pid.as_raw() > 0) {
        if getsid(Some(pid)) != session {
            return true;
        }
        if nix::unistd::getpgid(Some(pid)) != Ok(group) {
            return false;
        }
        ancestor = table::parent(pid);
    }
    true
}
