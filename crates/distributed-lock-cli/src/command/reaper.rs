//! `lock-reaper`, the second process of `dlock`: the command's parent, where nothing else keeps the lock
//! when `dlock` is killed.
//!
//! Everything that the command starts stays below the reaper. It passes the command's status on, and
//! kills the whole tree when `dlock` has died or has not extended the command's time. It has a process
//! group of its own, so that a signal to the group of `dlock` does not end both.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::link::{Deadline, LENGTH, READ, Report};
use super::spawn::{self, Setting};
use super::tree::{self, Status};
use crate::exit::{UNAVAILABLE, USAGE};
use crate::say;

/// The name of the process: not `dlock`, so that who kills that by its name does not hit both.
pub(crate) const NAME: &str = "lock-reaper";
/// The first argument, by which the program knows what it is to do.
pub(crate) const MARK: &str = "--for-dlock";

/// How often the tree is looked at while it ends.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
/// How many times: five seconds, after which what is left is named.
const ROUNDS: usize = 1_000;

/// The words that start the reaper. `stdin` is a number, open in the reaper, of what becomes the
/// command's standard input; the reaper's own is the stream to `dlock`.
pub(crate) fn words(stdin: i32, group: Pid, command: &[OsString]) -> Vec<OsString> {
    let own = [NAME.into(), MARK.into(), stdin.to_string().into(), group.to_string().into()];
    own.into_iter().chain(command.iter().cloned()).collect()
}

/// The arguments of the reaper, if this process was started as one.
pub(crate) fn arguments() -> Option<Vec<OsString>> {
    let mut words = std::env::args_os().skip(1);
    (words.next()? == MARK).then(|| words.collect())
}

/// Runs the command and reports; returns the exit status, which only says whether that went well.
pub(crate) fn run(arguments: &[OsString]) -> u8 {
    let [stdin, group, command @ ..] = arguments else { return USAGE };
    let number = |word: &OsString| word.to_str().and_then(|word| word.parse::<i32>().ok());
    let (Some(stdin), Some(group)) = (number(stdin), number(group)) else { return USAGE };
    match Reaper::start(stdin, Pid::from_raw(group), command) {
        Ok(reaper) => reaper.watch(),
        Err(error) => {
            report(Report::NotStarted(error as i32));
            UNAVAILABLE
        }
    }
}

struct Reaper {
    command: Pid,
    children: SignalFd,
    timer: OwnedFd,
}

/// Why the reaper ends.
enum End {
    /// `dlock` has read that the command has ended. Until then they may both have been killed.
    Read,
    /// `dlock` has died, or does not read.
    Alone,
    Expired,
}

impl Reaper {
    fn start(stdin: i32, group: Pid, command: &[OsString]) -> Result<Self, Errno> {
        // For those who list processes; any name does.
        let _ = nix::sys::prctl::set_name(c"lock-reaper");
        // Nothing but SIGKILL ends it before the command.
        SigSet::all().thread_block()?;
        tree::adopt_orphans();
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let children = SignalFd::with_flags(&SigSet::from(Signal::SIGCHLD), flags)?;
        let timer = timerfd_create(
            TimerfdClockId::Boottime,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )
        .map_err(|error| Errno::from_raw(error.raw_os_error()))?;
        let setting = Setting { group: Some(group), stdin: Some(stdin) };
        let command = spawn::spawn(command, &spawn::environment(&[]), setting)?;
        report(Report::Started(command.as_raw()));
        Ok(Self { command, children, timer })
    }

    fn watch(&self) -> u8 {
        let end = loop {
            if let Some(status) = self.reap() {
                report(Report::Ended(status));
            }
            if let Some(end) = self.wait() {
                break end;
            }
        };
        if let End::Read = end {
            // What the command has left behind goes on.
            return 0;
        }
        let left = self.end_tree();
        if let End::Expired = end {
            report(Report::Expired);
        }
        if !left.is_empty() {
            say::say(format!("the lock is gone, but these cannot be ended: {left}"));
            say::flush();
        }
        UNAVAILABLE
    }

    /// Takes the statuses of all that have ended; returns the command's.
    fn reap(&self) -> Option<Status> {
        while let Ok(Some(_)) = self.children.read_signal() {}
        let mut status = None;
        tree::reap(|pid, ended| {
            if pid == self.command {
                status = Some(ended);
            }
        });
        status
    }

    /// Waits until something has happened, and says whether that is the end.
    fn wait(&self) -> Option<End> {
        let link = std::io::stdin();
        let mut sources = [
            PollFd::new(&link, PollFlags::IN),
            PollFd::new(&self.children, PollFlags::IN),
            PollFd::new(&self.timer, PollFlags::IN),
        ];
        if poll(&mut sources, None).is_err() {
            return None;
        }
        if !sources[0].revents().is_empty() {
            let mut bytes = [0; LENGTH];
            // Directly: the standard library would read ahead.
            match rustix::io::read(link.as_fd(), &mut bytes) {
                Ok(LENGTH) if bytes == READ => return Some(End::Read),
                Ok(LENGTH) => self.extend(Deadline::decode(bytes)),
                Err(rustix::io::Errno::INTR) => {}
                _ => return Some(End::Alone),
            }
            return None;
        }
        (!sources[2].revents().is_empty()).then_some(End::Expired)
    }

    fn extend(&self, deadline: Deadline) {
        // Zero would switch it off.
        let at = deadline.on_clock().max(Duration::from_nanos(1));
        let Ok(it_value) = Timespec::try_from(at) else { return };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = Itimerspec { it_interval, it_value };
        // Fails only for times that no clock can show: those never come.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &spec);
    }

    /// Kills until nothing is left, and describes what may not be or does not end.
    fn end_tree(&self) -> String {
        let mut round = tree::kill_all(self.command);
        for _ in 0..ROUNDS {
            if round.reached == 0 {
                return tree::describe(&round.refused);
            }
            let mut sources = [PollFd::new(&self.children, PollFlags::IN)];
            // It ends with the next child, or soon.
            let _ = poll(&mut sources, Some(&LOOK_AGAIN));
            while let Ok(Some(_)) = self.children.read_signal() {}
            round = tree::kill_all(self.command);
        }
        format!("{} processes that were killed and do not end", round.reached)
    }
}

/// Sends a report, unless `dlock` has died.
fn report(report: Report) {
    // The stream has room for the few that there are. The standard library reads only from it.
    let _ = rustix::io::write(std::io::stdin().as_fd(), &report.encode());
}
