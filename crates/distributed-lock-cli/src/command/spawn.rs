//! Starting a program with a clean signal mask, and otherwise with what `dlock` was given.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nix::errno::Errno;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawnp};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;

/// What runs a script without `#!`, as `execvp` does.
const SHELL: &str = "/bin/sh";

/// How a program starts, apart from its words and its environment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Setting {
    /// Its process group: `None` is the caller's, process 0 is a new one.
    pub(crate) group: Option<Pid>,
    /// The descriptor that becomes its standard input.
    pub(crate) stdin: Option<RawFd>,
}

/// Starts a program that is looked up in `PATH`, and returns its process id.
///
/// Its signal mask is empty. Signals that this process ignores stay ignored, but for `SIGPIPE`,
/// which the language's runtime ignores in this process, whatever it was given.
pub(crate) fn spawn(
    words: &[OsString],
    environment: &[CString],
    setting: Setting,
) -> Result<Pid, Errno> {
    let [program, arguments @ ..] = words else { return Err(Errno::ENOENT) };
    match spawn_program(program, words, environment, setting) {
        Err(Errno::ENOEXEC) => {
            // Not a binary and no `#!`: a script for the shell.
            let script = [OsString::from(SHELL), look_up(program)?];
            let words = [&script[..], arguments].concat();
            spawn_program(OsStr::new(SHELL), &words, environment, setting)
        }
        result => result,
    }
}

/// As [`spawn`], with a program that its first word does not name.
pub(crate) fn spawn_program(
    program: &OsStr,
    words: &[OsString],
    environment: &[CString],
    setting: Setting,
) -> Result<Pid, Errno> {
    let program = c_string(program)?;
    let words = words.iter().map(c_string).collect::<Result<Vec<_>, _>>()?;
    let mut attributes = PosixSpawnAttr::init()?;
    let mut flags =
        PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF;
    attributes.set_sigmask(&SigSet::empty())?;
    attributes.set_sigdefault(&SigSet::from(Signal::SIGPIPE))?;
    if let Some(group) = setting.group {
        attributes.set_pgroup(group)?;
        flags |= PosixSpawnFlags::POSIX_SPAWN_SETPGROUP;
    }
    attributes.set_flags(flags)?;
    let mut actions = PosixSpawnFileActions::init()?;
    if let Some(descriptor) = setting.stdin {
        actions.add_dup2(descriptor, 0)?;
        if descriptor != 0 {
            actions.add_close(descriptor)?;
        }
    }
    posix_spawnp(&program, &actions, &attributes, &words, environment)
}

/// The environment of this process with changes: a value to set, or `None` to remove.
pub(crate) fn environment(changes: &[(&str, Option<OsString>)]) -> Vec<CString> {
    let inherited = std::env::vars_os()
        .filter(|(name, _)| !changes.iter().any(|(changed, _)| OsStr::new(changed) == name));
    let set =
        changes.iter().filter_map(|(name, value)| Some((OsString::from(name), value.clone()?)));
    // A value with a NUL byte cannot be passed to any program.
    inherited
        .chain(set)
        .filter_map(|(mut entry, value)| {
            entry.push("=");
            entry.push(value);
            CString::new(entry.into_vec()).ok()
        })
        .collect()
}

fn c_string(text: impl AsRef<OsStr>) -> Result<CString, Errno> {
    CString::new(text.as_ref().as_bytes()).map_err(|_| Errno::EINVAL)
}

/// Where `execvp` finds a program that it cannot execute as a binary.
fn look_up(program: &OsStr) -> Result<OsString, Errno> {
    if program.as_bytes().contains(&b'/') {
        return Ok(program.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let mut candidates = std::env::split_paths(&path).map(|directory| directory.join(program));
    let found = candidates.find(|path| is_executable(path));
    found.map(Into::into).ok_or(Errno::ENOENT)
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// The words that run a line of shell, as `flock -c` does.
pub(crate) fn shell_line(line: &OsStr) -> Vec<OsString> {
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
    vec![shell.unwrap_or_else(|| SHELL.into()), "-c".into(), line.to_owned()]
}
