//! What `dlock run --help` teaches behind the options.

use crate::exit::{LOST, NOT_ACQUIRED, NOT_EXECUTABLE, NOT_FOUND, SIGNAL_BASE, UNAVAILABLE, USAGE};

/// Examples, environment and exit statuses of `dlock run`.
pub(crate) fn run() -> String {
    format!(
        "\
Examples:
  One backup at a time on this machine, later ones wait:
    dlock run backup -- /usr/local/bin/backup --full

  A cron job that is skipped while the last one still runs:
    dlock run --no-wait --conflict-exit-code 0 report -- make-report

  At most ten minutes of waiting, and a pipeline as the command:
    dlock run --wait 10m import -- sh -c 'fetch | load'

  Readers beside each other, and a writer alone:
    dlock run --read data -- ./report.sh
    dlock run --write data -- ./import.sh

  At most four at once:
    dlock run --permits 4 crawl -- ./crawl.sh

  Locks in a directory of your choice, shared with its group:
    dlock run --url 'file:///srv/locks?mode=660' deploy -- ./deploy.sh

Environment:
  DISTRIBUTED_LOCK_URL    where the lock is, if --url is not given

  The command gets:
  DISTRIBUTED_LOCK_NAME   the lock's name
  DISTRIBUTED_LOCK_TOKEN  its fencing token: a number that grows from holder to holder, so that
                          what the command writes to can refuse one that comes late; not set
                          where the service has none

Exit status:
  the command's, or {SIGNAL_BASE} + N if signal N ended it (or dlock, while it waited); otherwise
  {USAGE:>3}  usage: arguments, URL or name
  {UNAVAILABLE:>3}  the lock service cannot be reached, or refuses
  {NOT_ACQUIRED:>3}  not acquired in time (--conflict-exit-code changes it)
  {LOST:>3}  the lock was lost while the command ran
  {NOT_EXECUTABLE:>3}  the command cannot be executed
  {NOT_FOUND:>3}  the command was not found

Signals:
  INT, TERM, HUP, QUIT, USR1, USR2 and TSTP are passed on to the command, which runs in its own
  process group and in the foreground if dlock does. If the lock is lost, the group gets TERM and
  at most five seconds later KILL. If dlock itself is killed, locks on files last until the
  command has ended too; on a server the command is killed with it."
    )
}
