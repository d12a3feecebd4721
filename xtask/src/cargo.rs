//! Running cargo and other programs, each shown before it runs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a chore ends with: nothing, or why it failed.
pub(crate) type Done = Result<(), String>;

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs cargo in the workspace.
pub(crate) fn cargo(args: &[&str]) -> Done {
    cargo_with(args, &[])
}

/// Runs cargo in the workspace with variables set.
pub(crate) fn cargo_with(args: &[&str], variables: &[(&str, &str)]) -> Done {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    run(Command::new(cargo).args(args).envs(variables.iter().copied()), &args.join(" "))
}

/// Runs cargo in the workspace and returns what it prints.
pub(crate) fn output(args: &[&str]) -> Result<String, String> {
    let (cargo, shown) =
        (std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()), args.join(" "));
    println!("\n== {shown}");
    let output =
        Command::new(cargo).args(args).current_dir(root()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("`{shown}` could not be started: {error}"))?;
    match output.status.success() {
        true => String::from_utf8(output.stdout).map_err(|error| error.to_string()),
        false => Err(format!("`{shown}` failed: {}", output.status)),
    }
}

/// Runs a program in the workspace.
pub(crate) fn run(command: &mut Command, shown: &str) -> Done {
    println!("\n== {shown}");
    let status = command.current_dir(root()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{shown}` failed: {status}")),
        Err(error) => Err(format!("`{shown}` could not be started: {error}")),
    }
}
