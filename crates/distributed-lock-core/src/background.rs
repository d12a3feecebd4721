//! Work that outlives the call that caused it, and the runtime that the call ran on.
//!
//! Background work runs on the runtime in use, if that has timers and I/O. A runtime that ends drops its tasks; ours notice and
//! start again on the *library thread*, which is started when it is first needed and lives as long
//! as the process.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, TryLockError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Id, RuntimeFlavor};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::runtime::require_io;

/// A boxed future, as background work and erased types use it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Starts work; `None` if it is not needed any more.
type Make = Arc<dyn Fn() -> Option<BoxFuture<'static, ()>> + Send + Sync>;

/// Where background work runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Home {
    /// On the runtime in use, and on the library thread once that has ended.
    #[default]
    CurrentRuntime,
    /// Always on the library thread, so that a blocked runtime delays nothing.
    LibraryThread,
}

/// The runtime of the library thread; `None` if the system refuses another thread.
///
/// A forked process has no thread but the one that forked: it gets a library thread of its own.
pub fn library_runtime() -> Option<&'static Handle> {
    /// The library threads of this process and those it was forked from, of which only memory is left.
    static LIBRARIES: OnceLock<Library> = OnceLock::new();
    struct Library {
        process: u32,
        runtime: Option<Handle>,
        forked: OnceLock<Box<Library>>,
    }
    let process = std::process::id();
    let start = || Library { process, runtime: start_library(), forked: OnceLock::new() };
    let mut library = LIBRARIES.get_or_init(start);
    while library.process != process {
        library = library.forked.get_or_init(|| Box::new(start()));
    }
    library.runtime.as_ref()
}

fn start_library() -> Option<Handle> {
    let (send, receive) = std::sync::mpsc::channel();
    let body = move || {
        let runtime = Builder::new_current_thread().enable_all().build();
        if let Ok(runtime) = runtime
            && send.send(runtime.handle().clone()).is_ok()
        {
            runtime.block_on(std::future::pending::<()>());
        }
    };
    let thread = std::thread::Builder::new().name("distributed-lock".into()).spawn(body);
    let handle = thread.ok().and_then(|_| receive.recv().ok());
    if handle.is_none() {
        tracing::error!("the library thread cannot be started; dropped locks stay held");
    }
    handle
}

/// The runtime that work started now belongs on.
fn runtime_for(home: Home) -> Option<Handle> {
    match (home, require_io()) {
        (Home::CurrentRuntime, Ok(current)) => Some(current),
        _ => library_runtime().cloned(),
    }
}

/// How long a current-thread runtime may leave work without a poll before the library thread takes it
/// over.
const UNDRIVEN_AFTER: Duration = Duration::from_millis(250);

/// How often work on a current-thread runtime is polled, so that its runtime is seen to be driven.
const HEARTBEAT: Duration = Duration::from_millis(50);

/// Runs work to its end, whatever it takes: if its runtime ends first, `make` starts it anew on the
/// library thread.
///
/// A current-thread runtime may be alive and not driven, when its `block_on` has returned or synchronous
/// code blocks it. Then the library thread takes over: what was under way is dropped, and `make` starts
/// it anew. So the work must bear being dropped and done again, but never runs twice at a time.
pub fn spawn_to_the_end(
    home: Home,
    make: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static,
) {
    let Some(runtime) = runtime_for(home) else { return };
    let make: Make = Arc::new(move || Some(make()));
    if runtime.runtime_flavor() != RuntimeFlavor::CurrentThread {
        drop(runtime.spawn(Surviving::new(make)));
        return;
    }
    let Some(library) = library_runtime() else { return };
    if library.id() == runtime.id() {
        drop(library.spawn(Surviving::new(make)));
        return;
    }
    let work = Arc::new(Movable::new(&make));
    let first: Make = {
        let (work, make) = (Arc::clone(&work), Arc::clone(&make));
        let is_first = AtomicBool::new(true);
        Arc::new(move || {
            // Started anew after its runtime ended, unless the library thread has it already.
            if is_first.swap(false, Ordering::AcqRel) {
                Some(Box::pin(Arc::clone(&work).run_here()))
            } else if work.take() {
                make()
            } else {
                None
            }
        })
    };
    drop(runtime.spawn(Surviving::new(first)));
    drop(library.spawn(async move {
        if work.is_left_alone().await {
            Surviving::new(make).await;
        }
    }));
}

/// Work on a current-thread runtime that the library thread can take over.
struct Movable {
    /// `None` once it is done or taken over.
    work: Mutex<Option<BoxFuture<'static, ()>>>,
    polls: AtomicU32,
}

impl Movable {
    fn new(make: &Make) -> Self {
        Self { work: Mutex::new(make()), polls: AtomicU32::new(0) }
    }

    /// Runs the work where it was spawned, until it is done or taken over.
    async fn run_here(self: Arc<Self>) {
        let mut heartbeat = pin!(tokio::time::sleep(HEARTBEAT));
        poll_fn(|context| {
            self.polls.fetch_add(1, Ordering::Relaxed);
            let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(running) = &mut *work else { return Poll::Ready(()) };
            if running.as_mut().poll(context).is_ready() {
                *work = None;
                return Poll::Ready(());
            }
            drop(work);
            while heartbeat.as_mut().poll(context).is_ready() {
                heartbeat.as_mut().reset(Instant::now() + HEARTBEAT);
            }
            Poll::Pending
        })
        .await;
    }

    /// `true` once the work was taken from a runtime that does not poll it; `false` once it is done.
    async fn is_left_alone(&self) -> bool {
        loop {
            let polls = self.polls.load(Ordering::Relaxed);
            tokio::time::sleep(UNDRIVEN_AFTER).await;
            let is_done = match self.work.try_lock() {
                Ok(work) => work.is_none(),
                // It panicked, and would again.
                Err(TryLockError::Poisoned(_)) => true,
                // It is being polled.
                Err(TryLockError::WouldBlock) => false,
            };
            if is_done {
                return false;
            }
            if self.polls.load(Ordering::Relaxed) == polls && self.take() {
                return true;
            }
        }
    }

    /// Drops the work that is under way; `false` if it is done or was taken already.
    fn take(&self) -> bool {
        let work = match self.work.try_lock() {
            Ok(mut work) => work.take(),
            Err(_) => None,
        };
        work.is_some()
    }
}

/// A task that starts again on the library thread if it is dropped before its end.
struct Surviving {
    make: Make,
    work: Option<BoxFuture<'static, ()>>,
    polling: bool,
}

impl Surviving {
    fn new(make: Make) -> Self {
        let work = make();
        Self { make, work, polling: false }
    }
}

impl Future for Surviving {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.polling = true;
        let poll = match &mut self.work {
            Some(work) => work.as_mut().poll(context),
            None => Poll::Ready(()),
        };
        self.polling = false;
        if poll.is_ready() {
            self.work = None;
        }
        poll
    }
}

impl Drop for Surviving {
    fn drop(&mut self) {
        // Work that panicked is dropped while it is polled, and would panic again.
        if self.work.take().is_some()
            && !self.polling
            && let Some(work) = (self.make)()
            && let Some(library) = library_runtime()
        {
            let make = Arc::clone(&self.make);
            drop(library.spawn(Surviving { make, work: Some(work), polling: false }));
        }
    }
}

/// A task that is there while its owner lives and is used, at most one at a time.
///
/// It starts on the runtime of the first use. When it is used from another runtime, it moves to the
/// library thread for good: nobody can say whether the first runtime is still driven.
pub struct Resident {
    home: Home,
    make: Make,
    place: Mutex<Place>,
}

enum Place {
    Nowhere,
    On { runtime: Id, end: CancellationToken },
    Library { end: CancellationToken },
}

impl Resident {
    /// A task that `make` creates when it is first used, and again if its runtime ends.
    pub fn new(
        home: Home,
        make: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        let make: Make = Arc::new(move || Some(make()));
        Self { home, make, place: Mutex::new(Place::Nowhere) }
    }

    /// Makes sure that the task runs somewhere that is driven.
    pub fn ensure(&self) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let current = match self.home {
            Home::CurrentRuntime => require_io().ok(),
            Home::LibraryThread => None,
        };
        let on_library = match (&*place, &current) {
            (Place::Library { .. }, _) => return,
            (Place::On { runtime, .. }, Some(current)) if *runtime == current.id() => return,
            (Place::Nowhere, Some(_)) => false,
            _ => true,
        };
        place.end();
        let end = CancellationToken::new();
        *place = if on_library {
            let Some(library) = library_runtime() else { return };
            self.start(library, &end);
            Place::Library { end }
        } else {
            let Some(current) = current else { return };
            self.start(&current, &end);
            Place::On { runtime: current.id(), end }
        };
    }

    fn start(&self, runtime: &Handle, end: &CancellationToken) {
        let (make, end) = (Arc::clone(&self.make), end.clone());
        let until_the_end = move || -> Option<BoxFuture<'static, ()>> {
            if end.is_cancelled() {
                return None;
            }
            let (work, end) = (make()?, end.clone());
            Some(Box::pin(async move {
                tokio::select! {
                    biased;
                    () = end.cancelled() => {}
                    () = work => {}
                }
            }))
        };
        drop(runtime.spawn(Surviving::new(Arc::new(until_the_end))));
    }
}

impl Place {
    fn end(&self) {
        if let Self::On { end, .. } | Self::Library { end } = self {
            end.cancel();
        }
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.place.get_mut().unwrap_or_else(PoisonError::into_inner).end();
    }
}

impl fmt::Debug for Resident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resident").field("home", &self.home).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn work_goes_on_when_its_runtime_ends() {
        let (send, receive) = mpsc::channel();
        let runs = Arc::new(AtomicUsize::new(0));
        let first = runtime();
        first.block_on(async {
            spawn_to_the_end(Home::CurrentRuntime, move || {
                let (send, run) = (send.clone(), runs.fetch_add(1, Ordering::SeqCst));
                Box::pin(async move {
                    if run == 0 {
                        std::future::pending::<()>().await;
                    }
                    send.send(run).unwrap();
                })
            });
            tokio::task::yield_now().await;
        });
        drop(first);
        assert_eq!(receive.recv_timeout(Duration::from_secs(10)), Ok(1));
    }

    #[test]
    fn work_on_a_runtime_that_is_not_driven_is_done_elsewhere() {
        let (send, receive) = mpsc::channel();
        let undriven = runtime();
        undriven.block_on(async {
            spawn_to_the_end(Home::CurrentRuntime, move || {
                let send = send.clone();
                Box::pin(async move { send.send(()).unwrap() })
            });
        });
        assert_eq!(receive.recv_timeout(Duration::from_secs(10)), Ok(()));
        drop(undriven);
    }

    #[test]
    fn slow_work_on_a_driven_runtime_stays_there_and_runs_once() {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let driven = runtime();
        driven.block_on(async {
            let (send, receive) = tokio::sync::oneshot::channel();
            let send = Arc::new(Mutex::new(Some(send)));
            spawn_to_the_end(Home::CurrentRuntime, move || {
                let (send, counted) = (Arc::clone(&send), Arc::clone(&counted));
                Box::pin(async move {
                    counted.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(3 * UNDRIVEN_AFTER).await;
                    let send = send.lock().unwrap().take().unwrap();
                    send.send(Handle::current().id()).unwrap();
                })
            });
            assert_eq!(receive.await.unwrap(), Handle::current().id());
        });
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn work_that_was_polled_once_is_taken_over() {
        let (send, receive) = mpsc::channel();
        let undriven = runtime();
        // Held by the copy that is under way, as a withdrawal holds its attempt.
        let attempt = Arc::new(tokio::sync::Mutex::new(0));
        undriven.block_on(async {
            spawn_to_the_end(Home::CurrentRuntime, move || {
                let (send, attempt) = (send.clone(), Arc::clone(&attempt));
                Box::pin(async move {
                    let mut times = attempt.lock().await;
                    *times += 1;
                    if *times == 1 {
                        std::future::pending::<()>().await;
                    }
                    send.send(*times).unwrap();
                })
            });
            tokio::task::yield_now().await;
        });
        assert_eq!(receive.recv_timeout(Duration::from_secs(10)), Ok(2));
        drop(undriven);
    }

    #[test]
    fn work_that_panics_is_not_repeated() {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let (send, receive) = mpsc::channel();
        let first = Builder::new_multi_thread().build().unwrap();
        first.block_on(async {
            spawn_to_the_end(Home::CurrentRuntime, move || {
                counted.fetch_add(1, Ordering::SeqCst);
                let send = send.clone();
                Box::pin(async move {
                    send.send(()).unwrap();
                    panic!("meant to panic")
                })
            });
        });
        receive.recv_timeout(Duration::from_secs(10)).unwrap();
        drop(first);
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_resident_moves_when_another_runtime_uses_it_and_ends_with_its_owner() {
        let alive = Arc::new(AtomicUsize::new(0));
        let (send, receive) = mpsc::channel();
        struct Alive(Arc<AtomicUsize>, mpsc::Sender<&'static str>);
        impl Drop for Alive {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
                // The test may be over.
                let _ = self.1.send("ended");
            }
        }
        let counted = Arc::clone(&alive);
        let resident = Resident::new(Home::CurrentRuntime, move || {
            counted.fetch_add(1, Ordering::SeqCst);
            let alive = Alive(Arc::clone(&counted), send.clone());
            Box::pin(async move {
                alive.1.send("runs").unwrap();
                std::future::pending::<()>().await;
            })
        });
        let wait = |what| assert_eq!(receive.recv_timeout(Duration::from_secs(10)), Ok(what));
        let (first, second) = (runtime(), runtime());
        first.block_on(async {
            resident.ensure();
            tokio::task::yield_now().await;
        });
        wait("runs");
        // The first runtime is alive, but nobody drives it.
        second.block_on(async { resident.ensure() });
        wait("runs");
        drop(first);
        wait("ended");
        resident.ensure();
        assert_eq!(alive.load(Ordering::SeqCst), 1);
        drop(resident);
        wait("ended");
    }
}
