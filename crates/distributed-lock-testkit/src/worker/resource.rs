//! A resource that compares fencing tokens: one number in one file, under a lock of its own that has
//! nothing to do with the locks under test.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use super::journal::now;

const DIGITS: usize = 20;

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) accepted: bool,
    /// When that was decided, while no other write was.
    pub(super) at: Duration,
}

/// Writes with a token: accepted unless a greater one was. Blocks while another write is decided.
pub(super) fn write(directory: &Path, lock: &str, token: u64) -> io::Result<Verdict> {
    let path = directory.join(format!("resource-{lock}"));
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    file.lock()?;
    let accepted = highest(&file)?.is_none_or(|highest| token >= highest);
    if accepted {
        file.write_all_at(format!("{token:0DIGITS$}").as_bytes(), 0)?;
    }
    let verdict = Verdict { accepted, at: now() };
    file.unlock()?;
    Ok(verdict)
}

fn highest(file: &File) -> io::Result<Option<u64>> {
    let mut text = [0; DIGITS];
    match file.read_exact_at(&mut text, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let number = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_token_is_refused_and_changes_nothing() {
        let directory = std::env::temp_dir().join(format!("resource-test-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let accepted = |token| write(&directory, "a", token).unwrap().accepted;
        let verdicts = [5, 5, 4, 6, 5, 6].map(accepted);
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(verdicts, [true, true, false, true, false, true]);
    }
}
