//! The repository's own rules, checked on every file that git knows.

use std::process::Command;

use crate::cargo::{Done, root};

/// No source file is longer; most are much shorter.
const MOST_LINES: usize = 500;

/// What must not be left behind, in any source file but this one.
const MARKERS: [&str; 6] = ["#[ignore", "TODO", "FIXME", "XXX", "todo!(", "unimplemented!("];

/// Checks every rule and lists every breach.
pub(crate) fn check() -> Done {
    println!("\n== tidy");
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
        .current_dir(root())
        .output()
        .map_err(|error| format!("git could not be started: {error}"))?;
    let files = String::from_utf8(listed.stdout).map_err(|error| error.to_string())?;
    let mut breaches = Vec::new();
    let mut sources = String::new();
    for file in files.lines().filter(|file| !file.ends_with("tidy.rs")) {
        // A file that was removed is still known until that is committed.
        let Ok(text) = std::fs::read_to_string(root().join(file)) else { continue };
        let lines = text.lines().count();
        if lines > MOST_LINES {
            breaches.push(format!("{file}: {lines} lines, the limit is {MOST_LINES}; split it"));
        }
        sources.push_str(&text);
        for (number, line) in text.lines().enumerate() {
            if let Some(marker) = MARKERS.iter().find(|marker| line.contains(**marker)) {
                breaches.push(format!("{file}:{}: {marker}", number + 1));
            }
        }
    }
    breaches.extend(promises_without_test(&sources)?);
    if breaches.is_empty() { Ok(()) } else { Err(format!("not tidy:\n{}", breaches.join("\n"))) }
}

/// Tests that `docs/faults.md` names and nobody wrote.
fn promises_without_test(sources: &str) -> Result<Vec<String>, String> {
    let promises = std::fs::read_to_string(root().join("docs/faults.md"));
    let promises = promises.map_err(|error| format!("docs/faults.md: {error}"))?;
    let rows = promises.lines().filter(|line| line.starts_with("| "));
    let shown_by = rows.filter_map(|row| row.trim_end_matches(" |").rsplit_once('|'));
    let names = shown_by.flat_map(|(_, tests)| tests.split('`').skip(1).step_by(2));
    let missing = names.filter(|name| !sources.contains(&format!("fn {name}")));
    Ok(missing.map(|name| format!("docs/faults.md: there is no test {name}")).collect())
}
