//! The command line.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use distributed_lock::Mode;

use crate::command::spawn::shell_line;
use crate::{exit, help};

/// Runs commands under a lock that holds across processes and machines.
#[derive(Debug, Parser)]
#[command(name = "dlock", version, max_term_width = 80)]
#[command(after_help = "`dlock run --help` has examples.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(RunArgs),
}

/// Run a command while holding a lock.
///
/// Waits until the lock is free, runs the command, releases the lock and exits with the command's
/// status. Meanwhile no other command runs under the same name on the same lock service.
#[derive(Debug, Args)]
#[command(after_long_help = help::run(), max_term_width = 80)]
#[command(override_usage = "dlock run [OPTIONS] NAME -- COMMAND [ARG]...\n       \
                            dlock run [OPTIONS] NAME -c 'LINE OF SHELL'")]
pub(crate) struct RunArgs {
    /// Where the lock is, for example file:///var/lock/app or redis://host
    ///
    /// See "Where the lock is" below for every scheme, and for what is used without this option. A URL
    /// with a password is better kept in the environment: others can read command lines. Several Redis
    /// servers, of which a majority decides, are given by as many --url, options on the last.
    #[arg(long)]
    pub(crate) url: Vec<String>,

    /// How long to wait for the lock: 30s, 500ms, 1h30m; a bare number is seconds
    ///
    /// The time covers a lock service that is unreachable at the start. Without this option dlock waits
    /// as long as it takes, also if the service has no room at the start, but ends with 69 if it is
    /// unreachable then.
    #[arg(long, short, value_name = "DURATION", value_parser = duration, alias = "timeout")]
    #[arg(conflicts_with = "no_wait", allow_hyphen_values = true)]
    wait: Option<Duration>,

    /// Do not wait if the lock is held
    #[arg(long, short, aliases = ["nonblock", "nb"])]
    no_wait: bool,

    /// Run beside other readers; only writers are kept out
    #[arg(long, short = 's', group = "mode", alias = "shared")]
    read: bool,

    /// Run alone, keeping out readers and writers; this is the default
    #[arg(long, short = 'x', short_alias = 'e', group = "mode", alias = "exclusive")]
    write: bool,

    /// Run at most N commands at once: a semaphore, apart from other locks
    #[arg(long, value_name = "N", group = "mode")]
    permits: Option<u32>,

    /// Exit status if the lock was not acquired in time
    #[arg(long, short = 'E', value_name = "N", default_value_t = exit::NOT_ACQUIRED)]
    pub(crate) conflict_exit_code: u8,

    /// Exit status if the lock was lost while the command ran
    #[arg(long, value_name = "N", default_value_t = exit::LOST)]
    pub(crate) lost_exit_code: u8,

    /// End the command after this time, with status 124
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) max_run: Option<Duration>,

    /// Run this line of shell, by $SHELL or else /bin/sh
    #[arg(long = "command", short = 'c', value_name = "LINE")]
    line: Option<OsString>,

    /// Do not pass the open lock file on to the command, as `flock -o`
    ///
    /// For commands that leave a daemon behind. If dlock is killed, the command is then ended with it,
    /// as on a server.
    #[arg(long, short = 'o')]
    pub(crate) close: bool,

    /// What others are shown as the holder, besides the process
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,

    /// Pass a lock service's URL on to the command even if it has a password
    #[arg(long)]
    pub(crate) pass_url: bool,

    /// Say nothing of waiting and of doubtful settings of the service
    ///
    /// Errors and a lost lock are always reported.
    #[arg(long, short)]
    pub(crate) quiet: bool,

    /// Say which lock service is used and why, and when the lock is held
    #[arg(long, conflicts_with = "quiet")]
    pub(crate) verbose: bool,

    /// The lock's name: any text of up to 1 KiB
    pub(crate) name: String,

    /// The command and its arguments
    #[arg(last = true, required_unless_present = "line", conflicts_with = "line")]
    #[arg(value_names = ["COMMAND", "ARG"])]
    command: Vec<OsString>,
}

/// How long to wait for the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitMode {
    Try,
    Until(Duration),
    Forever,
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

    pub(crate) fn wait_mode(&self) -> WaitMode {
        match (self.no_wait, self.wait) {
            (true, _) => WaitMode::Try,
            (false, Some(limit)) => WaitMode::Until(limit),
            (false, None) => WaitMode::Forever,
        }
    }

    /// The command's words.
    pub(crate) fn words(&self) -> Vec<OsString> {
        self.line.as_deref().map_or_else(|| self.command.clone(), shell_line)
    }
}

/// `1m 30s`, or seconds: `10`, `0.5`.
fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string());
    }
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

/// Parses the words of the command line, the program's own name first.
///
/// # Errors
/// Also help that was asked for is one.
pub(crate) fn parse(words: &[OsString]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(words).map_err(|error| match help::what_to_type(words, &error) {
        Some(hint) => error_with(hint, &error),
        None => error,
    })
}

fn error_with(hint: String, error: &clap::Error) -> clap::Error {
    use clap::CommandFactory;
    Cli::command().error(error.kind(), hint)
}

/// A word as a shell needs it.
pub(crate) fn quoted(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &[&str]) -> Result<RunArgs, clap::Error> {
        let words: Vec<_> = line.iter().map(OsString::from).collect();
        super::parse(&words).map(|Cli { command: Command::Run(args) }| args)
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn everything_behind_the_dashes_is_the_command() {
        let args = parse(&["dlock", "run", "--wait", "1m", "a", "--", "ls", "--wait", "--", "-q"]);
        let args = args.unwrap();
        assert_eq!(args.wait_mode(), WaitMode::Until(Duration::from_secs(60)));
        assert_eq!(args.name, "a");
        assert_eq!(args.words(), ["ls", "--wait", "--", "-q"]);
        assert_eq!(args.conflict_exit_code, exit::NOT_ACQUIRED);
        assert!(!args.quiet);
    }

    #[test]
    fn defaults_and_choices() {
        assert_eq!(
            parse(&["dlock", "run", "", "--", "ls"]).unwrap().wait_mode(),
            WaitMode::Forever
        );
        let line = ["dlock", "run", "--no-wait", "--conflict-exit-code=0", "-q", "a", "--", "ls"];
        let args = parse(&line).unwrap();
        assert_eq!(args.wait_mode(), WaitMode::Try);
        assert_eq!(args.conflict_exit_code, 0);
        assert!(args.quiet);
    }

    #[test]
    fn there_is_one_mode() {
        let mode = |options: &[&str]| {
            let line = [&["dlock", "run"], options, &["a", "--", "ls"]].concat();
            parse(&line).map(|args| args.mode())
        };
        for exclusive in [&[][..], &["--write"], &["-x"], &["-e"], &["--exclusive"]] {
            assert_eq!(mode(exclusive).unwrap(), Mode::Exclusive);
        }
        for shared in ["--read", "-s", "--shared"] {
            assert_eq!(mode(&[shared]).unwrap(), Mode::Shared);
        }
        assert_eq!(mode(&["--permits", "3"]).unwrap(), Mode::Permit { max: 3 });
        for both in [&["--read", "--write"][..], &["--read", "--permits", "3"]] {
            assert!(mode(both).unwrap_err().use_stderr());
        }
    }

    #[test]
    fn the_options_of_flock_mean_the_same() {
        let run = |options: &[&str]| {
            parse(&[&["dlock", "run"], options, &["a", "--", "ls"]].concat()).unwrap()
        };
        let wait = |text| run(&["-w", text]).wait_mode();
        assert_eq!(wait("10"), WaitMode::Until(Duration::from_secs(10)));
        assert_eq!(wait("0.5"), WaitMode::Until(Duration::from_millis(500)));
        assert_eq!(wait("0"), WaitMode::Until(Duration::ZERO));
        assert_eq!(run(&["--timeout", "2"]).wait_mode(), wait("2"));
        for option in ["-n", "--nonblock", "--nb"] {
            assert_eq!(run(&[option]).wait_mode(), WaitMode::Try);
        }
        assert_eq!(run(&["-nE", "3"]).conflict_exit_code, 3);
        assert!(run(&["-o"]).close);
        let line = parse(&["dlock", "run", "-n", "a", "-c", "fetch | load"]).unwrap().words();
        assert_eq!(line[1..], ["-c", "fetch | load"]);
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
            &["dlock", "run", "--wait", "-5", "a", "--", "ls"],
            &["dlock", "run", "--wait", "inf", "a", "--", "ls"],
            &["dlock", "run", "-c", "ls", "a", "--", "ls"],
            &["dlock", "run", "--conflict-exit-code", "256", "a", "--", "ls"],
            &["dlock", "run", "--conflict-exit-code", "-1", "a", "--", "ls"],
        ] {
            assert!(parse(line).unwrap_err().use_stderr(), "{line:?}");
        }
        let shown = parse(&["dlock", "run", "--wait", "-5s", "a", "--", "ls"]).unwrap_err();
        assert!(shown.to_string().contains("number") || shown.to_string().contains("unit"));
    }

    #[test]
    fn a_line_without_run_or_dashes_gets_the_line_to_type() {
        for (line, hint) in [
            (&["dlock", "x", "--", "true"][..], "dlock run x -- true"),
            (&["dlock", "run", "-n", "x", "true"], "dlock run -n x -- true"),
            (&["dlock", "run", "a b", "ls", "-l"], "dlock run 'a b' -- ls -l"),
            (&["dlock", "-n", "x", "ls"], "dlock run -n x -- ls"),
            (&["dlock", "/tmp/lock", "-c", "ls | wc"], "dlock run /tmp/lock -c 'ls | wc'"),
        ] {
            let shown = parse(line).unwrap_err();
            assert!(shown.use_stderr() && shown.to_string().contains(hint), "{shown}");
        }
    }
}
