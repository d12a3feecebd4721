//! What `dlock run --help` teaches behind the options, and what to type instead of a mistake.

use std::ffi::OsString;

use clap::error::{ContextKind, ErrorKind};

use crate::args::quoted;
use crate::exit::{
    LOST, NOT_ACQUIRED, NOT_EXECUTABLE, NOT_FOUND, RAN_TOO_LONG, SIGNAL_BASE, UNAVAILABLE, USAGE,
};

/// Examples, environment and exit statuses of `dlock run`.
pub(crate) fn run() -> String {
    format!(
        "\
Examples:
  One backup at a time on this machine; later ones wait:
    dlock run backup -- /usr/local/bin/backup --full

  A cron job that is skipped, silently, while the last one still runs:
    dlock run -q -n -E 0 report -- make-report

  At most ten minutes of waiting, and a pipeline as the command:
    dlock run --wait 10m import -c 'fetch | load'

  Readers beside each other, and a writer alone:
    dlock run --read data -- ./report.sh
    dlock run --write data -- ./import.sh

  At most four at once:
    dlock run --permits 4 crawl -- ./crawl.sh

  Locks in a directory that a group shares:
    sudo install -d -m 2770 -g deploy /srv/locks
    dlock run --url 'file:///srv/locks?mode=660' deploy -- ./deploy.sh

Where the lock is, first found wins:
  --url URL
  DISTRIBUTED_LOCK_URL in the environment
  `url = \"...\"` in $XDG_CONFIG_HOME/dlock.toml (else ~/.config/dlock.toml)
  the same in /etc/dlock.toml
  files of this user, in /var/tmp/distributed-lock-UID, on this machine
  `require_url = true` in a file forbids the last one. --verbose says which.

URLs:
  file:///DIRECTORY               this machine
  postgres://USER@HOST/DATABASE   PostgreSQL; also postgresql://
  redis://HOST[:PORT][/DATABASE]  Redis or Valkey
  rediss://HOST                   the same with TLS
  unix:///SOCKET                  the same by a socket

The command's environment:
  DISTRIBUTED_LOCK_NAME   the lock's name
  DISTRIBUTED_LOCK_TOKEN  its fencing token: a number that grows from holder
                          to holder, by which what the command writes to can
                          refuse a late writer; not set if there is none
  DISTRIBUTED_LOCK_HELD   the locks of the dlocks that it runs under
  DISTRIBUTED_LOCK_URL    is left out if it has a password (--pass-url)

Exit status:
  the command's, or {SIGNAL_BASE} + N if signal N ended it; if dlock got that signal,
  dlock dies by it, too. Otherwise:
  {USAGE:>3}  usage: arguments, URL or name
  {UNAVAILABLE:>3}  the lock service cannot be reached, or refuses
  {NOT_ACQUIRED:>3}  not acquired in time (-E changes it)
  {LOST:>3}  the lock was lost while the command ran (--lost-exit-code)
  {RAN_TOO_LONG:>3}  the command was ended by --max-run
  {NOT_EXECUTABLE:>3}  the command cannot be executed
  {NOT_FOUND:>3}  the command was not found

Signals and the end:
  The command runs in dlock's process group. INT, TERM, HUP and QUIT that are
  sent to dlock go to all of the group that the command started, USR1 and
  USR2 to the command. If the lock is lost, the command and everything that
  it started get TERM, and KILL at most five seconds later, before the lock
  can have passed on where it is a lease. If dlock itself is killed, a lock
  on files lasts until the command has ended, and on a server the command
  and everything that it started are killed. What is still running when the
  command has ended goes on, without the lock."
    )
}

/// The line that somebody who typed this one, as for `flock`, most likely wants.
pub(crate) fn what_to_type(words: &[OsString], error: &clap::Error) -> Option<String> {
    let [program, rest @ ..] = words else { return None };
    let with_run = rest.first().is_some_and(|word| word == "run");
    let rest = if with_run { &rest[1..] } else { rest };
    let wanted = match error.kind() {
        ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument if !with_run => rest.to_vec(),
        ErrorKind::UnknownArgument => {
            let unknown = error.get(ContextKind::InvalidArg)?.to_string();
            if unknown.starts_with('-') {
                return None;
            }
            rest.to_vec()
        }
        _ => return None,
    };
    let line: Vec<OsString> =
        [program.clone(), "run".into()].into_iter().chain(with_dashes(wanted)?).collect();
    let line: Vec<String> = line.iter().skip(1).map(|word| quoted(word)).collect();
    Some(format!("to run a command under a lock, type:\n\n    dlock {}\n", line.join(" ")))
}

/// Adds the `--` before the command, which is the second word that is neither an option nor its value.
fn with_dashes(mut words: Vec<OsString>) -> Option<Vec<OsString>> {
    const WITH_VALUE: [&str; 13] = [
        "-w",
        "--wait",
        "--timeout",
        "-E",
        "--conflict-exit-code",
        "--url",
        "--permits",
        "--max-run",
        "--lost-exit-code",
        "--label",
        "-c",
        "--command",
        "-nE",
    ];
    if words.iter().any(|word| word == "--") {
        return Some(words);
    }
    let (mut index, mut seen) = (0, 0);
    while let Some(word) = words.get(index) {
        if WITH_VALUE.iter().any(|option| word == option) {
            if word == "-c" || word == "--command" {
                return Some(words);
            }
            index += 1;
        } else if !word.as_encoded_bytes().starts_with(b"-") {
            seen += 1;
            if seen == 2 {
                words.insert(index, "--".into());
                return Some(words);
            }
        }
        index += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn help_fits_a_terminal_and_names_every_scheme() {
        let mut command = crate::args::Cli::command();
        let run = command.find_subcommand_mut("run").unwrap();
        for help in [run.render_long_help().to_string(), run.render_help().to_string()] {
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{line:?}");
            }
        }
        let help = super::run();
        for scheme in ["file:", "postgres:", "postgresql:", "redis:", "rediss:", "unix:"] {
            assert!(help.contains(scheme), "{scheme}");
        }
    }
}
