//! The libraries and `dlock` on platforms that no test runs on here, and with the oldest toolchain that may
//! build them: each is checked, none is linked.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cargo::{Done, root, run};

/// What users build for their platforms.
const PACKAGES: [&str; 6] = [
    "distributed-lock",
    "distributed-lock-cli",
    "distributed-lock-core",
    "distributed-lock-file",
    "distributed-lock-postgres",
    "distributed-lock-redis",
];

const TARGETS: [&str; 5] = [
    "aarch64-apple-darwin",
    "x86_64-apple-darwin",
    "x86_64-pc-windows-gnu",
    "x86_64-unknown-freebsd",
    "x86_64-unknown-linux-musl",
];

/// All of these in one folder: what does not depend on the target, build scripts and macros, is built
/// once. It is below the target folder, which CI keeps.
fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Path::new(&target).join("platforms")
}

/// Checks all of them with all features.
pub(crate) fn check() -> Done {
    add_targets()?;
    for target in TARGETS {
        let mut command = cargo();
        command.args(["--target", target]);
        // Some dependencies compile C. A check links nothing, so nothing needs to come of it, and no
        // compiler for the target is needed: the variables are those of the crate `cc`.
        let suffix = target.replace('-', "_");
        for tool in ["CC", "AR"] {
            command.env(format!("{tool}_{suffix}"), "true");
        }
        run(&mut command, &format!("check for {target}"))?;
    }
    let oldest = oldest_toolchain()?;
    let mut command = Command::new("rustup");
    command.args(["run", &oldest, "cargo"]);
    run(arguments(&mut command), &format!("check with Rust {oldest}"))
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    arguments(&mut command);
    command
}

fn arguments(command: &mut Command) -> &mut Command {
    command.args(["check", "--quiet", "--all-features", "--target-dir"]).arg(folder());
    command.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
    // The profile optimizes some dependencies, for tests; a check needs no code of them.
    command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "0")
}

/// Adds what is missing; `rustup` needs the network only for that.
fn add_targets() -> Done {
    let there = rustup(&["target", "list", "--installed"])?;
    let missing = TARGETS.iter().filter(|target| !there.lines().any(|line| line == **target));
    let missing: Vec<&str> = missing.copied().collect();
    if !missing.is_empty() {
        let mut add = Command::new("rustup");
        add.args(["target", "add"]).args(&missing);
        run(&mut add, &format!("rustup target add {}", missing.join(" ")))?;
    }
    let oldest = oldest_toolchain()?;
    if rustup(&["toolchain", "list"])?.lines().any(|line| line.starts_with(&format!("{oldest}-"))) {
        return Ok(());
    }
    let mut install = Command::new("rustup");
    install.args(["toolchain", "install", &oldest, "--profile", "minimal", "--no-self-update"]);
    run(&mut install, &format!("rustup toolchain install {oldest}"))
}

fn rustup(args: &[&str]) -> Result<String, String> {
    let output = Command::new("rustup").args(args).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("rustup could not be started: {error}"))?;
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
}

/// The workspace's `rust-version`, as `rustup` names it.
fn oldest_toolchain() -> Result<String, String> {
    let manifest = root().join("Cargo.toml");
    let manifest = std::fs::read_to_string(manifest).map_err(|error| error.to_string())?;
    let value = manifest.lines().find_map(|line| line.strip_prefix("rust-version = "));
    let version = value.map(|value| value.trim_matches('"'));
    let version = version.ok_or("Cargo.toml has no rust-version")?;
    Ok(if version.split('.').count() == 2 { format!("{version}.0") } else { version.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_toolchain_is_a_full_version() {
        assert_eq!(oldest_toolchain().unwrap().split('.').count(), 3);
    }
}
