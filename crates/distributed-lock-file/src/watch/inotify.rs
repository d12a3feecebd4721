//! The kernel's file events, by inotify.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, Event, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

use super::mounts::Mounts;
use super::path::WatchedPath;
use super::registry::Registry;
use super::{Closing, LOOK_PERIOD};

/// What can end the wait for a file besides closing it: it is no longer the one to lock.
const GONE: WatchFlags = WatchFlags::DELETE_SELF
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DONT_FOLLOW);

/// Room for some events with long names.
const BUFFER: usize = 8192;

/// An inotify instance that watches a directory and the way to it, and files in it on demand.
#[derive(Debug)]
pub(super) struct Inotify {
    descriptor: Arc<OwnedFd>,
    path: WatchedPath,
}

/// What one read of the events brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    Nothing,
    Events,
    /// Among them one that can mean that the path leads elsewhere.
    PathEvents,
}

impl Inotify {
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let descriptor = Arc::new(descriptor);
        let path = WatchedPath::new(Arc::clone(&descriptor), directory.to_owned());
        path.follow();
        Ok(Self { descriptor, path })
    }

    /// Makes sure, before a file is held, that the directory is watched: it may have been away.
    pub(super) fn ensure_directory(&self) {
        if self.path.is_blind() {
            self.path.follow();
        }
    }

    /// Watches the file that is at the path now; its number.
    pub(super) fn watch_file(&self, path: &Path, closing: Closing) -> io::Result<i32> {
        let closed = match closing {
            Closing::Any => WatchFlags::CLOSE,
            Closing::Written => WatchFlags::CLOSE_WRITE,
        };
        Ok(inotify::add_watch(&*self.descriptor, path, closed | GONE)?)
    }

    /// Ends a watch.
    pub(super) fn unwatch(&self, id: i32) {
        // Fails for a file that is gone, whose watch went with it.
        let _ = inotify::remove_watch(&*self.descriptor, id);
    }

    /// Passes events on for ever, or until the kernel refuses. While files are held, it also looks
    /// once in a period where the path leads: not every change raises an event. `moved` is called when
    /// that is another directory.
    pub(super) async fn read(&self, registry: &Registry, moved: impl Fn()) -> io::Result<()> {
        let source = Source(Arc::clone(&self.descriptor));
        #[expect(
            deprecated,
            reason = "its successor is an unsafe fn; the source owns its descriptor and always names \
                      the same one, which is what that one demands"
        )]
        let source = AsyncFd::with_interest(source, Interest::READABLE)?;
        let mounts = Mounts::open();
        let look = |at_all: bool| {
            let directory = self.path.watches().directory;
            let has_changed = self.path.follow();
            if has_changed || at_all || self.path.is_blind() {
                registry.check_all();
            }
            if has_changed && self.path.watches().directory != directory {
                moved();
            }
        };
        // What came while nobody read, between two runtimes, is in the kernel's queue still, but for
        // what raises no event.
        look(true);
        let mut next_look = pin!(sleep_until(Instant::now() + LOOK_PERIOD));
        let mut rests = false;
        loop {
            tokio::select! {
                ready = source.readable() => {
                    let mut ready = ready?;
                    match self.read_once(registry)? {
                        Read::Nothing => ready.clear_ready(),
                        Read::Events => {}
                        Read::PathEvents => look(true),
                    }
                    // The tasks that were woken come first; then there may be more to read.
                    tokio::task::yield_now().await;
                }
                () = mounts.changed() => look(true),
                () = next_look.as_mut(), if !rests => {
                    look(!mounts.are_seen());
                    rests = registry.rest();
                    next_look.as_mut().reset(Instant::now() + LOOK_PERIOD);
                }
                () = registry.used(), if rests => {
                    rests = false;
                    look(true);
                    next_look.as_mut().reset(Instant::now() + LOOK_PERIOD);
                }
            }
        }
    }

    /// Passes on what one read brings.
    fn read_once(&self, registry: &Registry) -> io::Result<Read> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut events = Reader::new(self.descriptor.as_fd(), &mut buffer);
        let watches = self.path.watches().clone();
        let mut brought = Read::Nothing;
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::WOULDBLOCK) => return Ok(brought),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                registry.wake_all();
                brought = Read::PathEvents;
            } else if !watches.are_on_path(event.wd()) {
                registry.changed(event.wd());
            } else if let Some(name) = file_name(&event) {
                // Of a name that we did not give, if it is not UTF-8.
                name.iter().for_each(|name| registry.check(name));
            } else {
                brought = Read::PathEvents;
            }
            if brought == Read::Nothing {
                brought = Read::Events;
            }
            if events.is_buffer_empty() {
                return Ok(brought);
            }
        }
    }
}

/// The entry that an event of a directory is about, if it is UTF-8; `None` for the directory itself.
fn file_name<'a>(event: &'a Event<'_>) -> Option<Option<&'a str>> {
    event.file_name().map(|name| name.to_str().ok())
}

/// The descriptor as tokio wants it.
#[derive(Debug)]
struct Source(Arc<OwnedFd>);

impl AsRawFd for Source {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
