//! The kernel's file events, by inotify.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Closing;
use super::registry::Registry;

/// What can end the wait for a file besides closing it: it is no longer the one to lock.
const GONE: WatchFlags = WatchFlags::DELETE_SELF
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DONT_FOLLOW);

/// What can take a held file from its path.
const REPLACED: WatchFlags = WatchFlags::DELETE
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Room for some events with long names.
const BUFFER: usize = 8192;

/// An inotify instance that watches a directory, and files in it on demand.
#[derive(Debug)]
pub(super) struct Inotify {
    descriptor: Arc<OwnedFd>,
    directory: i32,
}

impl Inotify {
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let directory = inotify::add_watch(&descriptor, directory, REPLACED)?;
        Ok(Self { descriptor: Arc::new(descriptor), directory })
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

    /// Passes events on for ever, or until the kernel refuses.
    pub(super) async fn read(&self, registry: &Registry) -> io::Result<()> {
        let source = Source(Arc::clone(&self.descriptor));
        #[expect(
            deprecated,
            reason = "its successor is an unsafe fn; the source owns its descriptor and always names \
                      the same one, which is what that one demands"
        )]
        let source = AsyncFd::with_interest(source, Interest::READABLE)?;
        // What came while nobody read, between two runtimes, is in the kernel's queue still.
        loop {
            let mut ready = source.readable().await?;
            if self.read_once(registry)? {
                // Whoever was woken comes first; then there may be more to read.
                tokio::task::yield_now().await;
            } else {
                ready.clear_ready();
            }
        }
    }

    /// Passes on what one read brings; `false` if there was nothing.
    fn read_once(&self, registry: &Registry) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut events = Reader::new(self.descriptor.as_fd(), &mut buffer);
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::WOULDBLOCK) => return Ok(false),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                registry.check_all();
            } else if event.wd() != self.directory {
                registry.changed(event.wd());
            } else {
                match event.file_name().map(std::ffi::CStr::to_str) {
                    Some(Ok(name)) => registry.check(name),
                    // Not a name that we gave.
                    Some(Err(_)) => {}
                    // The directory itself.
                    None => registry.check_all(),
                }
            }
            if events.is_buffer_empty() {
                return Ok(true);
            }
        }
    }
}

/// The descriptor as tokio wants it.
#[derive(Debug)]
struct Source(Arc<OwnedFd>);

impl AsRawFd for Source {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
