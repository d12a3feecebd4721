//! A server's wall clock, moved while it runs.

use std::fs::{self, File, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::home::Home;
use super::{account, cache};

/// What is preloaded into the server.
const SOURCE: &str = include_str!("clock_shift.c");

/// The variable that names the file which has the shift.
const VARIABLE: &str = "DISTRIBUTED_LOCK_CLOCK_SHIFT";

/// Which way a clock is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toward {
    /// It shows a time that is yet to come.
    Future,
    /// It shows a time that is over.
    Past,
}

/// The wall clock of the programs that are started with its [`env`](Self::env): PostgreSQL's and
/// Redis's, for example.
///
/// The monotonic clock, and with it every timer, goes as it does. Programs that ask the kernel
/// without the C library are not affected. When it is dropped, the clocks stay as they are; a
/// server that is restarted later has the right time.
///
/// ```no_run
/// use std::time::Duration;
///
/// use distributed_lock_testkit::servers::{ClockShift, RedisServer, Toward};
///
/// let clock = ClockShift::new();
/// let server = RedisServer::builder().envs(clock.env()).start();
/// clock.set(Duration::from_secs(3600), Toward::Past);
/// ```
#[derive(Debug)]
pub struct ClockShift {
    library: PathBuf,
    shift: File,
    /// With the file, which servers can read.
    home: Home,
}

impl ClockShift {
    /// A clock that is right.
    ///
    /// # Panics
    /// If there is no C compiler.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it compiles and writes: no default value")]
    pub fn new() -> Self {
        let home = Home::create();
        let path = shift_file(&home);
        let shift = File::options().create_new(true).write(true).open(&path).expect("a file");
        account::give(&path);
        let mut version = DefaultHasher::new();
        SOURCE.hash(&mut version);
        let library = cache::file(&format!("clock-shift-{:x}.so", version.finish()), compile);
        let clock = Self { library, shift, home };
        clock.reset();
        clock
    }

    /// The environment of programs that are to have this clock.
    #[must_use]
    pub fn env(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.library.clone()), (VARIABLE, shift_file(&self.home))]
    }

    /// Makes the clock wrong by so much, from now on.
    ///
    /// # Panics
    /// If that is more than 292 years.
    pub fn set(&self, by: Duration, toward: Toward) {
        let by = i64::try_from(by.as_nanos()).expect("it fits into 64 bits");
        self.write(if toward == Toward::Future { by } else { -by }, 0);
    }

    /// Makes the clock stand at a time since 1970, until the next call.
    ///
    /// # Panics
    /// If that is more than 292 years.
    pub fn stand_at(&self, since_1970: Duration) {
        let at = i64::try_from(since_1970.as_nanos()).expect("it fits into 64 bits");
        self.write(0, at);
    }

    /// Makes the clock right again.
    pub fn reset(&self) {
        self.write(0, 0);
    }

    fn write(&self, by: i64, stands_at: i64) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&by.to_ne_bytes());
        bytes[8..].copy_from_slice(&stands_at.to_ne_bytes());
        self.shift.write_all_at(&bytes, 0).expect("the file is ours");
    }
}

fn shift_file(home: &Home) -> PathBuf {
    home.path().join("shift")
}

fn compile(library: &Path) {
    let source = library.with_extension("c");
    fs::write(&source, SOURCE).expect("the directory is ours");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]).arg(library).arg(&source);
    let output = cc.output();
    let output = output.unwrap_or_else(|error| panic!("{cc:?}: {error}"));
    assert!(output.status.success(), "{cc:?}: {}", String::from_utf8_lossy(&output.stderr));
    fs::remove_file(source).expect("it was just written");
    // For the user that servers run as.
    fs::set_permissions(library, Permissions::from_mode(0o755)).expect("the file is ours");
}
