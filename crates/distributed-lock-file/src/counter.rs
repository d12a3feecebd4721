//! The counter behind the fencing tokens of a name: a file with one decimal number.
//!
//! Each draw is `max(stored + 1, microseconds since 1970)`, under the counter file's own exclusive
//! lock. The clock is only a floor, so that tokens go on increasing if the file is lost.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use distributed_lock_core::FencingToken;
use distributed_lock_core::background::library_runtime;
use distributed_lock_core::error::{LockError, LockResult};

use crate::clock::since_1970;
use crate::failure::{of_file, refusal};
use crate::open::{FOLLOW_LIMIT, OpenFile, open_lock_file};
use crate::options::FileOptions;

/// Digits of the number in the file, which a newline follows.
const DIGITS: usize = 20;

/// So much of the file is looked at, to see whether it is a counter.
const LOOKED_AT: usize = 64;

/// Draws the next token, if `still_held` says so under the counter's lock: a later holder can then
/// only draw a greater one.
pub(crate) async fn draw(
    path: &Path,
    options: &FileOptions,
    still_held: impl Fn() -> LockResult<()>,
) -> LockResult<FencingToken> {
    let counter = lock(path, options).await?;
    still_held()?;
    next(&counter.file).map_err(|error| refusal(of_file(path, error)))
}

/// Locks the counter. Others have it for two system calls only, unless one was stopped in between:
/// then a thread waits in the kernel.
async fn lock(path: &Path, options: &FileOptions) -> LockResult<OpenFile> {
    for _ in 0..FOLLOW_LIMIT {
        let counter = open_lock_file(path, options).map_err(refusal)?;
        let counter = match counter.file.try_lock() {
            Ok(()) => counter,
            Err(TryLockError::WouldBlock) => lock_on_a_thread(counter).await?,
            Err(TryLockError::Error(error)) => return Err(refusal(of_file(path, error))),
        };
        if counter.inode.is_at(path).map_err(refusal)? {
            return Ok(counter);
        }
    }
    Err(refusal(of_file(path, io::Error::other("it is replaced each time it was locked"))))
}

async fn lock_on_a_thread(counter: OpenFile) -> LockResult<OpenFile> {
    let Some(library) = library_runtime() else {
        return Err(LockError::backend("no thread can be started to wait for the counter"));
    };
    let locked = library.spawn_blocking(move || counter.file.lock().map(|()| counter)).await;
    locked.map_err(LockError::backend)?.map_err(refusal)
}

fn next(file: &File) -> io::Result<FencingToken> {
    let stored = stored(file)?;
    let Some(above) = stored.checked_add(1) else {
        return Err(invalid("the counter has reached its end; use another lock name"));
    };
    let next = above.max(now_in_micros());
    file.write_all_at(format!("{next:0DIGITS$}\n").as_bytes(), 0)?;
    Ok(FencingToken(next))
}

/// The last token drawn. What a crash leaves of a counter, an empty file, a part of the number or
/// NULs, says nothing: then only the clock does.
pub(crate) fn stored(file: &File) -> io::Result<u64> {
    let mut content = [0; LOOKED_AT];
    let length = read_at_most(file, &mut content)?;
    let content = &content[..length];
    if !content.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'\n' | 0)) {
        return Err(invalid("it does not hold a number; if it is nobody else's file, remove it"));
    }
    match content.first_chunk::<DIGITS>().filter(|text| text.iter().all(u8::is_ascii_digit)) {
        Some(text) => parse(text),
        None => {
            if !content.is_empty() {
                tracing::warn!("a damaged counter of fencing tokens goes on from the clock");
            }
            Ok(0)
        }
    }
}

fn read_at_most(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

fn parse(text: &[u8]) -> io::Result<u64> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| invalid("its number is beyond all tokens; remove it"))
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// The counter's floor.
pub(crate) fn now_in_micros() -> u64 {
    u64::try_from(since_1970().as_micros()).unwrap_or(0)
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
        for content in ["somebody's notes, not a number", "notes", "99999999999999999999\n"] {
            std::fs::write(&path, content).unwrap();
            let error = draw_at(&path).await.unwrap_err();
            let file: &io::Error = error.find_source().unwrap();
            assert!(file.to_string().contains(path.to_str().unwrap()), "{error:?}");
            assert!(!error.is_retryable());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
    }

    #[tokio::test]
    async fn row_61_a_damaged_counter_goes_on_from_the_clock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.token");
        let mut last = draw_at(&path).await.unwrap();
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(whole.len(), DIGITS + 1);
        let half_nuls = [&whole[..7], &[0; 14][..]].concat();
        let late_nuls = [&[0; 13][..], &whole[13..]].concat();
        let torn = (0..whole.len()).map(|length| whole[..length].to_vec());
        let nuls = [1, 20, 21, 22, 64, 4096].map(|length| vec![0; length]);
        for content in torn.chain(nuls).chain([half_nuls, late_nuls, b"\n".to_vec()]) {
            std::fs::write(&path, &content).unwrap();
            let next = draw_at(&path).await.unwrap();
            assert!(next > last, "after {content:?}");
            assert_eq!(
                &std::fs::read(&path).unwrap()[..DIGITS],
                format!("{:020}", next.0).as_bytes()
            );
            last = next;
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn row_36_a_full_disk_names_the_file() {
        // Every write to it fails as on a full disk.
        let full = File::options().read(true).write(true).open("/dev/full").unwrap();
        let error = refusal(of_file("/x/a.token", next(&full).unwrap_err()));
        assert!(error.is_retryable());
        let file: &io::Error = error.find_source().unwrap();
        assert_eq!(file.to_string(), "lock file /x/a.token");
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
