//! The turnstile: a waiting writer has it locked, so that readers that overlap cannot starve it.
//!
//! It is there against starvation, not for exclusion, and must not keep anybody out for long when its
//! holder does not run. So a writer that waits writes the time into it with each try, and others
//! remove a turnstile whose holder has shown no progress for some time. Its holder, when it runs
//! again, finds its file gone and asks for the new one.

use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::since_1970;
use crate::flock::{ShareMode, try_lock};
use crate::key::LockPath;
use crate::open::{OpenFile, open_lock_file, remove_file};
use crate::options::FileOptions;

/// The time of a writer's last try: milliseconds since 1970 and a newline.
const STAMP: usize = 14;

/// An open turnstile.
#[derive(Debug)]
pub(crate) struct Turnstile {
    open: OpenFile,
    path: LockPath,
    is_locked: bool,
    seen: Option<Seen>,
}

/// What the holder of a turnstile had written, and since when it is known to be there.
#[derive(Debug)]
struct Seen {
    stamp: Option<Duration>,
    since: Instant,
}

impl Turnstile {
    pub(crate) fn open(path: &LockPath, options: &FileOptions) -> io::Result<Self> {
        let open = open_lock_file(path, options)?;
        Ok(Self { open, path: path.clone(), is_locked: false, seen: None })
    }

    pub(crate) fn file(&self) -> &OpenFile {
        &self.open
    }

    /// Whether it is still the one that others look for.
    pub(crate) fn is_there(&self) -> io::Result<bool> {
        self.open.inode.is_at(&self.path)
    }

    /// Locks it, if nobody excludes that. A writer that has it locked shows that it makes progress.
    pub(crate) fn enter(&mut self, mode: ShareMode) -> io::Result<bool> {
        if !self.is_locked {
            self.is_locked = try_lock(&self.open, mode)?;
        }
        if self.is_locked && mode == ShareMode::Exclusive {
            let stamp = format!("{:0width$}\n", since_1970().as_millis(), width = STAMP - 1);
            if let Err(error) = self.open.file.write_all_at(stamp.as_bytes(), 0) {
                // On a full disk readers may pass this writer.
                tracing::debug!(%error, file = %self.path, "the turnstile was not written");
            }
        }
        Ok(self.is_locked)
    }

    /// Unlocks it, if it is locked.
    pub(crate) fn leave(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_locked) {
            self.open.file.unlock()?;
        }
        Ok(())
    }

    /// Whether the process that keeps this one out has shown no progress for `limit`.
    ///
    /// A reader is kept out by a writer and goes by the time that this has written, so that it need
    /// not wait itself. A writer may be kept out by a reader, which writes nothing.
    pub(crate) fn is_stuck(&mut self, mode: ShareMode, limit: Duration) -> bool {
        let stamp = self.stamp();
        let is_old = |stamp| since_1970().checked_sub(stamp).is_some_and(|age| age >= limit);
        if mode == ShareMode::Shared && stamp.is_some_and(is_old) {
            return true;
        }
        let now = Instant::now();
        match &self.seen {
            Some(seen) if seen.stamp == stamp => now - seen.since >= limit,
            _ => {
                self.seen = Some(Seen { stamp, since: now });
                false
            }
        }
    }

    fn stamp(&self) -> Option<Duration> {
        let mut text = [0; STAMP];
        self.open.file.read_exact_at(&mut text, 0).ok()?;
        let millis = std::str::from_utf8(&text).ok()?.strip_suffix('\n')?.parse().ok()?;
        Some(Duration::from_millis(millis))
    }

    /// Removes it. Fails in a directory where others' files may not be removed.
    pub(crate) fn remove(self, options: &FileOptions) -> Result<(), Self> {
        if let Err(error) = remove_file(&self.path, self.open.inode, options) {
            tracing::debug!(%error, "a turnstile whose holder does not run stays");
            return Err(self);
        }
        tracing::debug!(file = %self.path, "a turnstile was removed: its holder does not run");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::FileKey;

    const LIMIT: Duration = Duration::from_secs(3);

    #[tokio::test(start_paused = true)]
    async fn a_holder_is_stuck_when_it_shows_no_progress() {
        let directory = tempfile::tempdir().unwrap();
        let key = FileKey::lock(directory.path(), "stem".into());
        let open = || Turnstile::open(key.turnstile(), &FileOptions::default()).unwrap();
        let (mut writer, mut other) = (open(), open());
        assert!(writer.enter(ShareMode::Exclusive).unwrap());
        for _ in 0..5 {
            for mode in [ShareMode::Shared, ShareMode::Exclusive] {
                assert!(!other.enter(mode).unwrap());
                assert!(!other.is_stuck(mode, LIMIT));
            }
            tokio::time::advance(Duration::from_secs(2)).await;
            // Another time than the last one, at the next millisecond.
            let before = writer.stamp();
            while writer.stamp() == before {
                writer.enter(ShareMode::Exclusive).unwrap();
            }
        }
        assert!(!other.is_stuck(ShareMode::Exclusive, LIMIT));
        tokio::time::advance(LIMIT).await;
        assert!(other.is_stuck(ShareMode::Exclusive, LIMIT));
        other.remove(&FileOptions::default()).unwrap();
        assert!(!writer.is_there().unwrap());
        assert!(open().enter(ShareMode::Shared).unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_goes_by_what_the_writer_has_written() {
        let directory = tempfile::tempdir().unwrap();
        let key = FileKey::lock(directory.path(), "stem".into());
        let open = || Turnstile::open(key.turnstile(), &FileOptions::default()).unwrap();
        let mut writer = open();
        assert!(writer.enter(ShareMode::Exclusive).unwrap());
        for (stamp, is_stuck) in
            [("0000000000001\n", true), ("9999999999999\n", false), ("torn", false)]
        {
            writer.open.file.set_len(0).unwrap();
            writer.open.file.write_all_at(stamp.as_bytes(), 0).unwrap();
            assert_eq!(open().is_stuck(ShareMode::Shared, LIMIT), is_stuck, "{stamp:?}");
            assert!(!open().is_stuck(ShareMode::Exclusive, LIMIT), "{stamp:?}");
        }
    }
}
