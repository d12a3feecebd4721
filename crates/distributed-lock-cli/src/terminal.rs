//! Job control: the command has the terminal while it runs, and `dlock` stops when it is stopped.
//!
//! The command gets the terminal a moment after its start. If it reads earlier, the kernel stops it
//! and [`Terminal::stopped`] mends that; a Ctrl-Z at just that time is lost with the stop.

use std::io::{IsTerminal, stdin, stdout};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

/// The terminal on standard input, if there is one, lent to the command's process group.
///
/// Every method does nothing where there is no terminal or another job has it. Dropping takes the
/// terminal back.
#[derive(Debug)]
pub(crate) struct Terminal {
    child: Pid,
}

/// Whether a command that was stopped is to be continued now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Continue,
    /// It goes on when `dlock` is sent `SIGCONT`, or when others continue it.
    LeaveStopped,
}

impl Terminal {
    /// Lends the terminal to this process group if `dlock` has it.
    ///
    /// In a pipeline the other programs, say `less`, may need the terminal, and belong to the
    /// group of `dlock`: there the command gets it when it asks, see [`stopped`](Self::stopped).
    pub(crate) fn lend(child: Pid) -> Self {
        let terminal = Self { child };
        if stdout().is_terminal() {
            terminal.hand_over();
        }
        terminal
    }

    /// Lends the terminal if `dlock` has it; says whether the command has it now.
    pub(crate) fn hand_over(&self) -> bool {
        match tcgetpgrp(stdin()) {
            Ok(foreground) if foreground == getpgrp() => set_foreground(self.child),
            foreground => foreground == Ok(self.child),
        }
    }

    /// The command was stopped: if that was for the terminal's sake, gives it the terminal;
    /// otherwise stops `dlock` too, so that the shell notices, and returns when it is continued.
    pub(crate) fn stopped(&self, by: Signal) -> Then {
        let asks = matches!(by, Signal::SIGTTIN | Signal::SIGTTOU);
        if asks && self.hand_over() {
            return Then::Continue;
        }
        let had_it = self.take_back();
        if by == Signal::SIGSTOP && !had_it {
            // Somebody stopped the command, and not the job.
            return Then::LeaveStopped;
        }
        // Unlike SIGSTOP, this has no effect where no shell is there to continue us. (SIGTSTP
        // would not either, but is caught.) If it fails, we go on like that, too.
        let _ = raise(Signal::SIGTTIN);
        if asks { Then::LeaveStopped } else { Then::Continue }
    }

    /// Takes the terminal back if the command has it.
    fn take_back(&self) -> bool {
        tcgetpgrp(stdin()) == Ok(self.child) && set_foreground(getpgrp())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.take_back();
    }
}

/// Makes a group the foreground group of the terminal, from the background too.
fn set_foreground(group: Pid) -> bool {
    if !stdin().is_terminal() {
        return false;
    }
    let blocked = SigSet::from(Signal::SIGTTOU).thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let done = tcsetpgrp(stdin(), group).is_ok();
    if let Ok(before) = blocked {
        // It was accepted as the mask a moment ago.
        let _ = before.thread_set_mask();
    }
    done
}
