//! The chores made of cargo commands.

use std::path::Path;

use crate::cargo::{Done, cargo, cargo_with, output, root};
use crate::{platforms, servers, tidy};

/// The crate whose features users choose.
const META: &str = "distributed-lock";

/// Everything that must hold before a change lands.
pub(crate) fn test() -> Done {
    servers::install()?;
    tidy::check()?;
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    for features in combinations(&features()?) {
        let features = features.join(",");
        let only = ["-p", META, "--no-default-features", "--features", &features];
        cargo(&[&["clippy", "--all-targets"], &only[..], &["--", "-D", "warnings"]].concat())?;
    }
    platforms::check()?;
    // The program with one backend; its tests need all of them.
    for feature in features()? {
        let only = ["-p", "distributed-lock-cli", "--no-default-features", "--features", &feature];
        cargo(&[&["clippy", "--bins"], &only[..], &["--", "-D", "warnings"]].concat())?;
    }
    // Not the benchmarks: in debug they say nothing.
    cargo(&["test", "--workspace", "--lib", "--bins", "--tests", "--examples", "--no-fail-fast"])?;
    cargo(&["test", "--workspace", "--doc"])?;
    for example in examples()? {
        cargo(&["run", "--quiet", "-p", META, "--example", &example])?;
    }
    let docs = ["doc", "--workspace", "--no-deps", "--document-private-items"];
    cargo_with(&docs, &[("RUSTDOCFLAGS", "-D warnings")])
}

/// The benchmarks. Each compares two things in one run and prints medians and ratios.
pub(crate) fn bench() -> Done {
    cargo(&["bench", "-p", "distributed-lock-file", "--bench", "file"])?;
    cargo(&["bench", "-p", "distributed-lock-postgres", "--bench", "postgres"])?;
    cargo(&["bench", "-p", "distributed-lock-redis", "--bench", "redis"])?;
    cargo(&["bench", "-p", "distributed-lock-cli", "--bench", "run"])?;
    cargo(&["run", "--release", "--quiet", "--manifest-path", "benches/peers/Cargo.toml"])
}

/// Checks the RedLock machines in every variant, some minutes long, and writes down what was found.
pub(crate) fn model() -> Done {
    // In debug: its profile is optimized where it matters, and is built for the tests already.
    let table = output(&["run", "--quiet", "-p", "distributed-lock-model"])?;
    std::fs::write(root().join("docs/redlock-model.md"), table).map_err(|error| error.to_string())
}

/// Random walks, as many steps as a test run makes in fifty.
pub(crate) fn walk() -> Done {
    let test = ["test", "-p", "distributed-lock-redis", "--test", "walk", "--"];
    let only = ["requests_", "--nocapture", "--test-threads=1"];
    let environment = [("WALK_STEPS", "5000000"), ("WALK_SEED", "2")];
    cargo_with(&[&test[..], &only].concat(), &environment)
}

fn meta() -> std::path::PathBuf {
    root().join("crates").join(META)
}

/// The features of the meta crate, read from its manifest.
fn features() -> Result<Vec<String>, String> {
    let manifest = std::fs::read_to_string(meta().join("Cargo.toml")).map_err(|e| e.to_string())?;
    let section = manifest.split("[features]").nth(1).and_then(|rest| rest.split("\n[").next());
    let lines = section.unwrap_or_default().lines();
    let names = lines.filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    Ok(names.map(|(name, _)| name.trim().to_owned()).filter(|name| name != "default").collect())
}

/// Every subset, the empty one too.
fn combinations(features: &[String]) -> Vec<Vec<String>> {
    features.iter().fold(vec![Vec::new()], |subsets, feature| {
        let with =
            subsets.iter().map(|subset| [&subset[..], std::slice::from_ref(feature)].concat());
        let with: Vec<_> = with.collect();
        [subsets, with].concat()
    })
}

fn examples() -> Result<Vec<String>, String> {
    let folder = meta().join("examples");
    let entries = std::fs::read_dir(folder).map_err(|error| error.to_string())?;
    let stem = |path: &Path| Some(path.file_stem()?.to_str()?.to_owned());
    let mut names: Vec<String> = entries.filter_map(|entry| stem(&entry.ok()?.path())).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subset_is_there_once() {
        let features = ["a".to_owned(), "b".to_owned()];
        let all = combinations(&features);
        let expected: [&[&str]; 4] = [&[], &["a"], &["b"], &["a", "b"]];
        assert_eq!(all, expected);
    }

    #[test]
    fn the_features_are_found() {
        assert!(features().unwrap().contains(&"file".to_owned()));
    }
}
