//! Work that outlives the call that caused it, and the runtime that the call ran on.
//!
//! Background work runs on the runtime in use. A runtime that ends drops its tasks; ours notice and
//! start again on the *library thread*, which is started when it is first needed and lives as long
//! as the process.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Id, RuntimeFlavor};
use tokio_util::sync::CancellationToken;

/// A boxed future, as background work and erased types use it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

type Make = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

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
pub fn library_runtime() -> Option<&'static Handle> {
    static LIBRARY: OnceLock<Option<Handle>> = OnceLock::new();
    LIBRARY
        .get_or_init(|| {
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
        })
        .as_ref()
}

/// The runtime that work started now belongs on.
fn runtime_for(home: Home) -> Option<Handle> {
    match (home, Handle::try_current()) {
        (Home::CurrentRuntime, Ok(current)) => Some(current),
        _ => library_runtime().cloned(),
    }
}

/// How long a current-thread runtime may leave work undone before the library thread does it too.
const UNDRIVEN_AFTER: Duration = Duration::from_millis(250);

/// Runs work to its end, wherever it takes: if its runtime ends first, `make` starts it anew on the
/// library thread.
///
/// A current-thread runtime may be alive and not driven, when its `block_on` has returned. Work that
/// is not done there soon is done on the library thread as well, so it must bear being done twice.
pub fn spawn_to_the_end(
    home: Home,
    make: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static,
) {
    let Some(runtime) = runtime_for(home) else { return };
    let make: Make = Arc::new(make);
    if runtime.runtime_flavor() != RuntimeFlavor::CurrentThread {
        drop(runtime.spawn(Surviving::new(make)));
        return;
    }
    let Some(library) = library_runtime() else { return };
    if library.id() == runtime.id() {
        drop(library.spawn(Surviving::new(make)));
        return;
    }
    let done = Arc::new(AtomicBool::new(false));
    let first: Make = {
        let (make, done) = (Arc::clone(&make), Arc::clone(&done));
        Arc::new(move || {
            let (work, done) = (make(), Arc::clone(&done));
            Box::pin(async move {
                work.await;
                done.store(true, Ordering::Release);
            })
        })
    };
    drop(runtime.spawn(Surviving::new(first)));
    drop(library.spawn(async move {
        tokio::time::sleep(UNDRIVEN_AFTER).await;
        if !done.load(Ordering::Acquire) {
            Surviving::new(make).await;
        }
    }));
}

/// A task that starts again on the library thread if it is dropped before its end.
struct Surviving {
    make: Make,
    work: Option<BoxFuture<'static, ()>>,
    polling: bool,
}

impl Surviving {
    fn new(make: Make) -> Self {
        let work = Some(make());
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
            && let Some(library) = library_runtime()
        {
            drop(library.spawn(Surviving::new(Arc::clone(&self.make))));
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
        Self { home, make: Arc::new(make), place: Mutex::new(Place::Nowhere) }
    }

    /// Makes sure that the task runs somewhere that is driven.
    pub fn ensure(&self) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let current = match self.home {
            Home::CurrentRuntime => Handle::try_current().ok(),
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
        let until_the_end = move || -> BoxFuture<'static, ()> {
            if end.is_cancelled() {
                return Box::pin(std::future::ready(()));
            }
            let (work, end) = (make(), end.clone());
            Box::pin(async move {
                tokio::select! {
                    biased;
                    () = end.cancelled() => {}
                    () = work => {}
                }
            })
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
