//! What the tests need beside a Rust toolchain, installed if it is missing.

use std::path::Path;
use std::process::Command;

use crate::cargo::{Done, run};

/// Programs that tests run, or files that these need, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 13] = [
    ("/usr/lib/python3/dist-packages/psycopg2/__init__.py", "python3-psycopg2"),
    ("/usr/lib/python3/dist-packages/redis/__init__.py", "python3-redis"),
    ("bindfs", "bindfs"),
    ("cc", "gcc"),
    ("flock", "util-linux"),
    ("ip", "iproute2"),
    ("openssl", "openssl"),
    ("pgbouncer", "pgbouncer"),
    ("postgres", "postgresql"),
    ("psql", "postgresql-client"),
    ("redis-cli", "redis-tools"),
    ("redis-server", "redis-server"),
    ("script", "bsdutils"),
];

/// Where Debian has programs that are not in everybody's search path.
const ELSEWHERE: [&str; 2] = ["/usr/sbin", "/usr/lib/postgresql"];

/// Installs what is missing, and fails if it cannot: no test is skipped for want of a program.
///
/// A server that the package starts by itself is in nobody's way: tests start their own, on other
/// ports.
pub(crate) fn install() -> Done {
    let missing: Vec<_> = PROGRAMS.iter().filter(|(program, _)| !is_there(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    let shown = format!("apt-get install {}", packages.join(" "));
    run(Command::new("apt-get").args(["update", "--quiet"]), "apt-get update")?;
    let mut install = Command::new("apt-get");
    install.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(packages);
    run(install.env("DEBIAN_FRONTEND", "noninteractive"), &shown)
        .map_err(|error| format!("{error}; install {missing:?} by hand"))
}

/// Whether it is in the search path or where Debian has it.
fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    in_path || ELSEWHERE.iter().any(|folder| is_below(Path::new(folder), program))
}

/// Whether it is in the folder, or in the `bin` of a version in it.
fn is_below(folder: &Path, program: &str) -> bool {
    let versions = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut programs = versions.map(|version| version.path().join("bin").join(program));
    folder.join(program).is_file() || programs.any(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_the_path_and_nowhere_else() {
        assert!(is_there("sh"));
        assert!(!is_there("no-such-program"));
    }

    #[test]
    fn programs_of_any_version_are_found() {
        let folder = std::env::temp_dir().join(format!("xtask-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("15/bin")).unwrap();
        std::fs::write(folder.join("15/bin/postgres"), "").unwrap();
        let found = (is_below(&folder, "postgres"), is_below(&folder, "psql"));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, (true, false));
    }
}
