//! A PostgreSQL data directory, made once by `initdb` and then copied.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::postgres::PASSWORD;
use super::{account, cache};

/// Where Debian has PostgreSQL: one directory for each version, none of them in the search path.
const VERSIONS: &str = "/usr/lib/postgresql";

/// The directory of the newest PostgreSQL's programs.
pub(super) fn programs() -> PathBuf {
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let numbered = versions.filter_map(|version| {
        let number: u32 = version.file_name().to_str()?.parse().ok()?;
        Some((number, version.path().join("bin")))
    });
    let newest = numbered.filter(|(_, programs)| programs.join("postgres").exists()).max();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = || std::env::split_paths(&path).find(|folder| folder.join("postgres").exists());
    let found = newest.map(|(_, programs)| programs).or_else(in_path);
    found.expect("PostgreSQL is not installed; `cargo xtask test` installs it")
}

/// Makes `data` in a directory of the server's user.
pub(super) fn copy(programs: &Path, home: &Path) {
    let version = output(Command::new(programs.join("postgres")).arg("--version"));
    let version = version.split_whitespace().nth(2).unwrap_or_default().to_owned();
    let template =
        cache::file(&format!("postgres-{version}.tar"), |archive| make(programs, archive));
    // One file, so that those who tidy up temporary files leave all of it or nothing.
    output(Command::new("tar").arg("-xf").arg(template).arg("-C").arg(home));
}

fn make(programs: &Path, archive: &Path) {
    let work = tempfile::tempdir().expect("a temporary directory");
    let password = work.path().join("password");
    fs::write(&password, PASSWORD).expect("a file");
    account::give(work.path());
    account::give(&password);
    let mut initdb = Command::new(programs.join("initdb"));
    initdb.args(["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale"]);
    // Small, so that a copy is quick.
    initdb.args(["--no-sync", "--wal-segsize=1", "--pwfile=password", "--pgdata=data"]);
    output(account::without_root(initdb.current_dir(work.path())));
    output(Command::new("tar").arg("-cf").arg(archive).arg("-C").arg(work.path()).arg("data"));
}

/// What a program prints.
fn output(program: &mut Command) -> String {
    let output = program.output().unwrap_or_else(|error| panic!("{program:?}: {error}"));
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{program:?}: {}", said(&output.stderr));
    said(&output.stdout)
}
