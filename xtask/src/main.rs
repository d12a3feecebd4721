//! The project's chores: `cargo xtask test`, `cargo xtask bench`, `cargo xtask model`,
//! `cargo xtask platforms`, `cargo xtask walk`, `cargo xtask tidy`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for developers")]

mod cargo;
mod chores;
mod platforms;
mod servers;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask CHORE

  test    install what the tests need, then: tidy, format, clippy, tests, doc tests, docs,
          every feature combination, examples, a check of libraries and dlock for other platforms
          and with the oldest Rust
  bench   the benchmarks, release build
  model   RedLock under the model checker; writes docs/redlock-model.md
  platforms  libraries and dlock for other platforms and with the oldest Rust, as in `test`
  walk    random walks of the Redis driver's requests: five million steps on one server, and
          one million on three
  tidy    the repository's own rules: length of files, no ignored tests, no markers left behind
";

fn main() -> ExitCode {
    let chore = std::env::args().nth(1);
    let done = match chore.as_deref() {
        Some("test") => chores::test(),
        Some("bench") => chores::bench(),
        Some("model") => chores::model(),
        Some("platforms") => platforms::check(),
        Some("walk") => chores::walk(),
        Some("tidy") => tidy::check(),
        _ => {
            print!("{HELP}");
            return if chore.is_none() { ExitCode::SUCCESS } else { ExitCode::from(64) };
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("xtask: {reason}");
            ExitCode::FAILURE
        }
    }
}
