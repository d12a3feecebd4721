//! Signals by handlers, where no descriptor tells of them.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, Waker};

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{getpgrp, tcgetpgrp};
use tokio::signal::unix::{self, SignalKind};

use super::Received;

#[derive(Debug)]
pub(crate) struct Source {
    streams: Vec<(Signal, unix::Signal)>,
    next: Option<Signal>,
}

impl Source {
    pub(crate) fn new(caught: &SigSet) -> io::Result<Self> {
        SigSet::empty().thread_set_mask()?;
        let stream = |signal| unix::signal(SignalKind::from_raw(signal as i32));
        let streams = caught.iter().map(|signal| Ok((signal, stream(signal)?)));
        Ok(Self { streams: streams.collect::<io::Result<_>>()?, next: None })
    }

    /// The next signal, if one was sent.
    pub(crate) fn read(&mut self) -> Option<Received> {
        let mut context = Context::from_waker(Waker::noop());
        let signal = self.next.take().or_else(|| self.poll(&mut context))?;
        // As far as can be known.
        let by_terminal = matches!(signal, Signal::SIGINT | Signal::SIGQUIT)
            && tcgetpgrp(io::stdin()) == Ok(getpgrp());
        Some(Received { signal, by_terminal })
    }

    /// Waits until there may be a signal.
    pub(crate) async fn ready(&mut self) {
        let signal = poll_fn(|context| match self.poll(context) {
            Some(signal) => Poll::Ready(signal),
            None => Poll::Pending,
        })
        .await;
        self.next = Some(signal);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Option<Signal> {
        self.streams.iter_mut().find_map(|(signal, stream)| {
            matches!(stream.poll_recv(context), Poll::Ready(Some(()))).then_some(*signal)
        })
    }
}
