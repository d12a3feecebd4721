//! Executors that lack what tokio's runtimes usually have.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use tokio::runtime::{Builder, Runtime};

use crate::bounds::CASE_LIMIT;

/// An executor without timers, without I/O, or without tokio.
pub(crate) struct Bare {
    pub(crate) name: &'static str,
    runtime: Option<Runtime>,
    pub(crate) has_timers: bool,
}

impl Bare {
    /// Each of them, tokio's in both flavours.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![Self { name: "no runtime", runtime: None, has_timers: false }];
        for new in [Builder::new_current_thread, Builder::new_multi_thread] {
            let mut add = |name, has_timers, enable: fn(&mut Builder) -> &mut Builder| {
                let runtime = enable(new().worker_threads(2)).build().expect("a runtime");
                all.push(Self { name, runtime: Some(runtime), has_timers });
            };
            add("a runtime without timers and I/O", false, |builder| builder);
            add("a runtime without timers", false, Builder::enable_io);
            add("a runtime without I/O", true, Builder::enable_time);
        }
        all
    }

    /// Runs a future to its end; one that hangs fails the test.
    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let future = limited(self.name, future);
        match &self.runtime {
            Some(runtime) => runtime.block_on(future),
            None => park_on(future),
        }
    }
}

/// A thread looks after the time, because the executor has no timers.
async fn limited<T>(name: &str, future: impl Future<Output = T>) -> T {
    let (_ends, ended) = mpsc::channel::<()>();
    let expired = Arc::new(AtomicBool::new(false));
    let mut watch = Some((ended, Arc::clone(&expired)));
    let mut future = pin!(future);
    poll_fn(move |context| {
        if let Some((ended, expired)) = watch.take() {
            let waker = context.waker().clone();
            thread::spawn(move || {
                if ended.recv_timeout(CASE_LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                    expired.store(true, Ordering::SeqCst);
                    waker.wake();
                }
            });
        }
        assert!(!expired.load(Ordering::SeqCst), "{name}: not within {CASE_LIMIT:?}");
        future.as_mut().poll(context)
    })
    .await
}

/// The simplest executor there is.
fn park_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        thread::park();
    }
}
