//! Signals read from a descriptor.

use std::io;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::unix::AsyncFd;

use super::Received;

/// `si_code` of a signal that the kernel sent, as a terminal's are.
const SI_KERNEL: i32 = 0x80;

#[derive(Debug)]
pub(crate) struct Source(AsyncFd<SignalFd>);

impl Source {
    /// Blocks these signals and no others in this thread, and in those that it starts.
    pub(crate) fn new(caught: &SigSet) -> io::Result<Self> {
        caught.thread_set_mask()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(caught, flags)?;
        #[expect(deprecated, reason = "a SignalFd owns its descriptor; the new way is unsafe")]
        let signals = AsyncFd::new(signals)?;
        Ok(Self(signals))
    }

    /// The next signal, if one was sent.
    pub(crate) fn read(&mut self) -> Option<Received> {
        loop {
            let info = self.0.get_ref().read_signal().ok().flatten()?;
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            if let Ok(signal) = Signal::try_from(number) {
                return Some(Received { signal, by_terminal: info.ssi_code == SI_KERNEL });
            }
        }
    }

    /// Waits until there may be a signal.
    pub(crate) async fn ready(&self) {
        match self.0.readable().await {
            // The caller reads next; what it has missed then makes the descriptor ready anew.
            Ok(mut guard) => guard.clear_ready(),
            Err(_) => std::future::pending().await,
        }
    }
}
