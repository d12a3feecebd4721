//! One attempt from its acquire to its release, with everything logged.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_core::traits::{
    DistributedLock, DistributedReaderWriterLock, DistributedSemaphore, LockHandle, LockProvider,
    ReaderWriterLockProvider, SemaphoreProvider,
};
use distributed_lock_core::{DynHandle, DynLockProvider, FencingToken, Mode};
use tokio::task::AbortHandle;

use super::command::Primitive;
use super::journal::Journal;
use super::resource;
use crate::history::What;

/// What is logged for an acquire whose future was dropped.
pub(crate) const DROPPED: &str = "the future was dropped";

/// What the tasks of a worker share.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) provider: DynLockProvider,
    pub(super) resources: Arc<Path>,
    pub(super) journal: Arc<Journal>,
}

/// What one attempt asks for.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) attempt: u64,
    pub(super) primitive: Primitive,
    pub(super) timeout: Duration,
    pub(super) lock: String,
    pub(super) token: TokenIsDrawn,
}

/// When a hold's fencing token is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenIsDrawn {
    /// Before the hold is logged, so that the log has it.
    AtOnce,
    /// With the first write, if there is one.
    ToWrite,
}

/// A lock that was granted.
#[derive(Debug)]
pub(super) struct Held {
    site: Site,
    request: Request,
    handle: DynHandle,
    token: Option<FencingToken>,
    /// Whether its end was logged: by whoever comes first, the loss or the release.
    is_over: Arc<AtomicBool>,
    watcher: AbortHandle,
}

/// How a holder gives its lock back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    Releases,
    DropsTheHandle,
}

impl Site {
    /// Acquires as requested; `None` if that was refused or failed.
    ///
    /// A future that is dropped half way logs that nobody knows what became of it.
    pub(super) async fn acquire(&self, request: Request) -> Option<Held> {
        let mode = request.primitive.mode();
        let given_up = GivenUp { site: self, request: &request, answered: false };
        self.log(&request, What::Invoke { mode, deadline: Some(request.timeout) });
        let answer = match self.ask(&request).await {
            Ok(handle) if request.token == TokenIsDrawn::AtOnce => {
                // Without one if the lock is lost by now, or the counter cannot be used.
                let token = handle.fencing_token().await.ok();
                Ok((handle, token))
            }
            Ok(handle) => Ok((handle, None)),
            Err(error) => Err(error),
        };
        given_up.answered();
        let (handle, token) = match answer {
            Ok(granted) => granted,
            Err(LockError::Timeout(_)) => {
                self.log(&request, What::Refused);
                return None;
            }
            Err(error) => {
                self.log(&request, What::Failed { error: explain(&error) });
                return None;
            }
        };
        self.log(&request, What::Acquired { token: token.map(|token| token.0) });
        Some(self.watched(request, handle, token))
    }

    async fn ask(&self, request: &Request) -> LockResult<DynHandle> {
        let (provider, lock, timeout) = (&self.provider, &request.lock, Some(request.timeout));
        match request.primitive {
            Primitive::Mutex => provider.create_lock(lock).acquire(timeout).await,
            Primitive::Write => {
                provider.create_reader_writer_lock(lock).acquire_write(timeout).await
            }
            Primitive::Read => provider.create_reader_writer_lock(lock).acquire_read(timeout).await,
            Primitive::Permit(max) => provider.create_semaphore(lock, max).acquire(timeout).await,
        }
    }

    fn watched(&self, request: Request, handle: DynHandle, token: Option<FencingToken>) -> Held {
        let is_over = Arc::new(AtomicBool::new(false));
        let lost = handle.lost_token().clone();
        let (site, over, asked) = (self.clone(), Arc::clone(&is_over), request.clone());
        let watcher = tokio::spawn(async move {
            lost.cancelled().await;
            if !over.swap(true, Ordering::SeqCst) {
                site.log(&asked, What::Lost);
            }
        });
        let watcher = watcher.abort_handle();
        Held { site: self.clone(), request, handle, token, is_over, watcher }
    }

    fn log(&self, request: &Request, what: What) {
        self.journal.log(request.attempt, &request.lock, what);
    }
}

impl Held {
    pub(super) fn attempt(&self) -> u64 {
        self.request.attempt
    }

    /// Writes to the lock's resource with this hold's token; only the holder of an exclusive lock
    /// may.
    pub(super) async fn write(&mut self) {
        if self.request.primitive.mode() != Mode::Exclusive {
            return;
        }
        let token = match self.token {
            Some(token) => token,
            // Lost, or no room for the counter: nothing to write with.
            None => match self.handle.fencing_token().await {
                Ok(token) => *self.token.insert(token),
                Err(_) => return,
            },
        };
        let (resources, lock) = (Arc::clone(&self.site.resources), self.request.lock.clone());
        // Whoever has the resource may have been stopped.
        let write =
            tokio::task::spawn_blocking(move || resource::write(&resources, &lock, token.0));
        if let Ok(Ok(verdict)) = write.await {
            let what = What::Wrote { token: token.0, accepted: verdict.accepted };
            let Request { attempt, lock, .. } = &self.request;
            self.site.journal.log_at(verdict.at, *attempt, lock, what);
        }
    }

    /// Completes when the lock is lost.
    pub(super) async fn lost(&self) {
        self.handle.lost_token().cancelled().await;
    }

    pub(super) async fn leave(self, leaving: Leaving) {
        let Self { site, request, handle, is_over, watcher, .. } = self;
        if !is_over.swap(true, Ordering::SeqCst) {
            site.log(&request, What::ReleaseInvoked);
        }
        watcher.abort();
        let released = match leaving {
            Leaving::Releases => handle.release().await,
            Leaving::DropsTheHandle => {
                drop(handle);
                let error = "the handle was dropped".into();
                return site.log(&request, What::ReleaseFailed { error });
            }
        };
        match released {
            Ok(()) => site.log(&request, What::Released),
            Err(error) => site.log(&request, What::ReleaseFailed { error: explain(&error) }),
        }
    }
}

/// Says that an acquire was given up, if it is dropped before it was answered.
struct GivenUp<'a> {
    site: &'a Site,
    request: &'a Request,
    answered: bool,
}

impl GivenUp<'_> {
    fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.site.log(self.request, What::Failed { error: DROPPED.into() });
        }
    }
}

/// The error and what is below it.
fn explain(error: &LockError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
