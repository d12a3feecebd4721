//! What the tests need beside a Rust toolchain, installed if it is missing.

use std::process::{Command, Stdio};

use crate::cargo::{Done, run};

/// Programs that tests run, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 2] = [("flock", "util-linux"), ("script", "bsdutils")];

/// Installs what is missing, and fails if it cannot: no test is skipped for want of a program.
pub(crate) fn install() -> Done {
    let missing: Vec<_> = PROGRAMS.iter().filter(|(program, _)| !is_there(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    let shown = format!("apt-get install {}", packages.join(" "));
    run(Command::new("apt-get").args(["update", "--quiet"]), "apt-get update")?;
    run(Command::new("apt-get").args(["install", "--yes", "--quiet"]).args(packages), &shown)
        .map_err(|error| format!("{error}; install {missing:?} by hand"))
}

fn is_there(program: &str) -> bool {
    let version = Command::new(program).arg("--version").stdout(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}
