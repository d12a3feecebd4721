//! Changes of the mount table, which can put another directory in a path's place.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The mount table of this process.
const TABLE: &str = "/proc/self/mountinfo";

/// Notifies of each mount and unmount, where the kernel shows them.
#[derive(Debug)]
pub(super) struct Mounts(Option<AsyncFd<Table>>);

impl Mounts {
    pub(super) fn open() -> Self {
        let Ok(table) = File::open(TABLE) else { return Self(None) };
        #[expect(
            deprecated,
            reason = "its successor is an unsafe fn; the table owns its descriptor and always names the \
                      same one, which is what that one demands"
        )]
        let table = AsyncFd::with_interest(Table(table), Interest::PRIORITY);
        Self(table.ok())
    }

    /// Whether they are noticed at all.
    pub(super) fn are_seen(&self) -> bool {
        self.0.is_some()
    }

    /// Completes with the next change.
    pub(super) async fn changed(&self) {
        let Some(table) = &self.0 else { return std::future::pending().await };
        match table.ready(Interest::PRIORITY).await {
            Ok(mut ready) => ready.clear_ready(),
            // Its runtime ends.
            Err(_) => std::future::pending().await,
        }
    }
}

/// The descriptor as tokio wants it.
#[derive(Debug)]
struct Table(File);

impl AsRawFd for Table {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
