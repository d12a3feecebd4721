//! The command line.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use distributed_lock::Mode;

use crate::{exit, help};

/// Runs commands under a lock that holds across processes and machines.
#[derive(Debug, Parser)]
#[command(name = "dlock", version, after_help = "`dlock run --help` has examples.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(RunArgs),
    /// What `dlock run` starts commands with.
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    Tied(crate::tied::TiedArgs),
}

/// Run a command while holding a lock.
///
/// Waits until the lock is free, runs the command, releases the lock and exits with the command's
/// status. Nobody else runs under the same name at the same place meanwhile.
#[derive(Debug, Args)]
#[command(after_long_help = help::run())]
pub(crate) struct RunArgs {
    /// Where the lock is, for example file:///var/lock/app [default: files of this user]
    ///
    /// If it is not given, the environment variable DISTRIBUTED_LOCK_URL says it, and otherwise
    /// files in /var/tmp/distributed-lock-UID on this machine. A URL with a password is better kept
    /// in the environment: others can read command lines.
    #[arg(long)]
    pub(crate) url: Option<String>,

    /// How long to wait for the lock, for example 30s, 500ms, 2m or 1h30m [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    #[arg(conflicts_with = "no_wait", allow_hyphen_values = true)]
    wait: Option<Duration>,

    /// Do not wait if somebody holds the lock
    #[arg(long)]
    no_wait: bool,

    /// Run beside other readers; only writers are kept out
    #[arg(long, group = "mode")]
    read: bool,

    /// Run alone, keeping out readers and writers; this is the default
    #[arg(long, group = "mode")]
    write: bool,

    /// Run beside at most N-1 others who say the same; a semaphore, apart from the other locks
    #[arg(long, value_name = "N", group = "mode")]
    permits: Option<u32>,

    /// Exit status if the lock was not acquired in time
    #[arg(long, value_name = "N", default_value_t = exit::NOT_ACQUIRED)]
    pub(crate) conflict_exit_code: u8,

    /// Do not say whom dlock waits for; errors and a lost lock are always told
    #[arg(long, short)]
    pub(crate) quiet: bool,

    /// The lock's name: any text of up to 1 KiB
    pub(crate) name: String,

    /// The command and its arguments
    #[arg(last = true, required = true, value_names = ["COMMAND", "ARG"])]
    pub(crate) command: Vec<OsString>,
}

/// How long to wait for the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    None,
    Until(Duration),
    Endless,
}

impl RunArgs {
    pub(crate) fn mode(&self) -> Mode {
        match (self.read, self.permits) {
            (true, _) => Mode::Shared,
            (false, Some(max)) => Mode::Permit { max },
            // With `--write` or without.
            (false, None) => Mode::Exclusive,
        }
    }

    pub(crate) fn patience(&self) -> Patience {
        match (self.no_wait, self.wait) {
            (true, _) => Patience::None,
            (false, Some(limit)) => Patience::Until(limit),
            (false, None) => Patience::Endless,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &[&str]) -> Result<RunArgs, clap::Error> {
        match Cli::try_parse_from(line)?.command {
            Command::Run(args) => Ok(args),
            other => panic!("not a run: {other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn everything_behind_the_dashes_is_the_command() {
        let args = parse(&["dlock", "run", "--wait", "1m", "a", "--", "ls", "--wait", "--", "-q"]);
        let args = args.unwrap();
        assert_eq!(args.patience(), Patience::Until(Duration::from_secs(60)));
        assert_eq!(args.name, "a");
        assert_eq!(args.command, ["ls", "--wait", "--", "-q"]);
        assert_eq!(args.conflict_exit_code, exit::NOT_ACQUIRED);
        assert!(!args.quiet);
    }

    #[test]
    fn defaults_and_choices() {
        assert_eq!(parse(&["dlock", "run", "", "--", "ls"]).unwrap().patience(), Patience::Endless);
        let line = ["dlock", "run", "--no-wait", "--conflict-exit-code=0", "-q", "a", "--", "ls"];
        let args = parse(&line).unwrap();
        assert_eq!(args.patience(), Patience::None);
        assert_eq!(args.conflict_exit_code, 0);
        assert!(args.quiet);
    }

    #[test]
    fn there_is_one_mode() {
        let mode = |options: &[&str]| {
            let line = [&["dlock", "run"], options, &["a", "--", "ls"]].concat();
            parse(&line).map(|args| args.mode())
        };
        assert_eq!(mode(&[]).unwrap(), Mode::Exclusive);
        assert_eq!(mode(&["--write"]).unwrap(), Mode::Exclusive);
        assert_eq!(mode(&["--read"]).unwrap(), Mode::Shared);
        assert_eq!(mode(&["--permits", "3"]).unwrap(), Mode::Permit { max: 3 });
        for both in [&["--read", "--write"][..], &["--read", "--permits", "3"]] {
            assert!(mode(both).unwrap_err().use_stderr());
        }
    }

    #[test]
    fn mistakes_are_refused() {
        for line in [
            &["dlock", "run"][..],
            &["dlock", "run", "a"],
            &["dlock", "run", "a", "--"],
            &["dlock", "run", "a", "ls"],
            &["dlock", "run", "--", "ls"],
            &["dlock", "run", "--wait", "1s", "--no-wait", "a", "--", "ls"],
            &["dlock", "run", "--wait", "soon", "a", "--", "ls"],
            &["dlock", "run", "--conflict-exit-code", "256", "a", "--", "ls"],
            &["dlock", "run", "--conflict-exit-code", "-1", "a", "--", "ls"],
        ] {
            assert!(parse(line).unwrap_err().use_stderr(), "{line:?}");
        }
        for wait in ["-5s", "10"] {
            let told = parse(&["dlock", "run", "--wait", wait, "a", "--", "ls"]).unwrap_err();
            assert!(told.to_string().contains("number") || told.to_string().contains("unit"));
        }
    }
}
