//! The counter behind the fencing tokens of a name: a file with one decimal number.
//!
//! Each draw is `max(stored + 1, microseconds since 1970)`, under the counter file's own exclusive
//! lock. The clock is only a floor, so that tokens go on increasing if the file is lost.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::SystemTime;

use distributed_lock_core::FencingToken;
use distributed_lock_core::background::library_runtime;
use distributed_lock_core::error::{LockError, LockResult};

use crate::open::{OpenFile, open_lock_file};
use crate::options::FileOptions;

/// Digits of the number in the file, which a newline follows.
const DIGITS: usize = 20;

/// Draws the next token, if `still_held` says so under the counter's lock: a later holder can then
/// only draw a greater one.
pub(crate) async fn draw(
    path: &Path,
    options: &FileOptions,
    still_held: impl Fn() -> LockResult<()>,
) -> LockResult<FencingToken> {
    let counter = lock(path, options).await?;
    still_held()?;
    next(&counter.file).map_err(LockError::backend)
}

/// Locks the counter. Others have it for two system calls only, unless one was stopped in between:
/// then a thread waits in the kernel.
async fn lock(path: &Path, options: &FileOptions) -> LockResult<OpenFile> {
    loop {
        let counter = open_lock_file(path, options).map_err(LockError::backend)?;
        let counter = match counter.file.try_lock() {
            Ok(()) => counter,
            Err(TryLockError::WouldBlock) => lock_on_a_thread(counter).await?,
            Err(TryLockError::Error(error)) => return Err(LockError::backend(error)),
        };
        if counter.inode.is_at(path).map_err(LockError::backend)? {
            return Ok(counter);
        }
    }
}

async fn lock_on_a_thread(counter: OpenFile) -> LockResult<OpenFile> {
    let Some(library) = library_runtime() else {
        return Err(LockError::backend("no thread can be started to wait for the counter"));
    };
    let locked = library.spawn_blocking(move || counter.file.lock().map(|()| counter)).await;
    locked.map_err(LockError::backend)?.map_err(LockError::backend)
}

fn next(file: &File) -> io::Result<FencingToken> {
    let mut text = [0; DIGITS];
    let stored = match file.read_exact_at(&mut text, 0) {
        Ok(()) => parse(&text)?,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
        Err(error) => return Err(error),
    };
    let Some(above) = stored.checked_add(1) else {
        return Err(invalid("the counter has reached its end; use another lock name"));
    };
    let next = above.max(now_in_micros());
    file.write_all_at(format!("{next:0DIGITS$}\n").as_bytes(), 0)?;
    Ok(FencingToken(next))
}

fn parse(text: &[u8]) -> io::Result<u64> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| invalid("the counter file does not hold a number; is it somebody else's?"))
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[expect(clippy::disallowed_methods, reason = "the wall clock is the counter's floor")]
fn now_in_micros() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn draw_at(path: &Path) -> LockResult<FencingToken> {
        draw(path, &FileOptions::default(), || Ok(())).await
    }

    #[tokio::test]
    async fn tokens_increase_also_past_the_clock_and_a_lost_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.token");
        let first = draw_at(&path).await.unwrap();
        assert!(draw_at(&path).await.unwrap() > first);
        let ahead = format!("{:020}\n", u64::MAX - 7);
        std::fs::write(&path, ahead).unwrap();
        assert_eq!(draw_at(&path).await.unwrap(), FencingToken(u64::MAX - 6));
        std::fs::remove_file(&path).unwrap();
        assert!(draw_at(&path).await.unwrap() > first);
        std::fs::write(&path, format!("{:020}\n", u64::MAX)).unwrap();
        assert!(matches!(draw_at(&path).await, Err(LockError::Backend(_))), "no token twice");
    }

    #[tokio::test]
    async fn what_is_not_a_counter_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.token");
        let content = "somebody's notes, not a number";
        std::fs::write(&path, content).unwrap();
        assert!(matches!(draw_at(&path).await, Err(LockError::Backend(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
    }

    #[tokio::test]
    async fn a_locked_counter_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.token");
        let other = open_lock_file(&path, &FileOptions::default()).unwrap();
        other.file.lock().unwrap();
        let drawn = {
            let path = path.clone();
            tokio::spawn(async move { draw_at(&path).await })
        };
        tokio::task::yield_now().await;
        assert!(!drawn.is_finished());
        drop(other);
        drawn.await.unwrap().unwrap();
    }
}
