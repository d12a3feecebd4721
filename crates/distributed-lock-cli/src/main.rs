//! `dlock` runs a command under a distributed lock.
//!
//! - [`args`] and [`help`]: what the user says and is shown
//! - [`service`]: where the lock is, by option, environment or [`config`]; [`default_dir`]: otherwise;
//!   [`url`]: what is shown of it; [`nested`]: the locks that this process runs under
//! - [`run`]: the run from connecting to releasing, made of [`acquire`], [`command`] (how it starts, and
//!   everything below it), [`supervise`], [`loss`] and [`events`]
//! - [`exit`]: every exit status; [`say`]: everything that is printed; [`warnings`]: what
//!   the library warns of; [`terms`]: messages of the library in terms of the command line

#[cfg(unix)]
mod acquire;
#[cfg(unix)]
mod args;
#[cfg(unix)]
mod command;
#[cfg(unix)]
mod config;
mod contact;
#[cfg(unix)]
mod default_dir;
#[cfg(unix)]
mod events;
#[cfg(unix)]
mod exit;
#[cfg(unix)]
mod help;
#[cfg(unix)]
mod loss;
#[cfg(unix)]
mod nested;
#[cfg(unix)]
mod run;
mod say;
#[cfg(unix)]
mod service;
#[cfg(unix)]
mod supervise;
#[cfg(unix)]
mod terms;
#[cfg(unix)]
mod url;
#[cfg(unix)]
mod warnings;

use std::process::ExitCode;

#[cfg(unix)]
fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    if let Some(arguments) = command::reaper::arguments() {
        return ExitCode::from(command::reaper::run(&arguments));
    }
    let words: Vec<_> = std::env::args_os().collect();
    let end = match args::parse(&words) {
        Ok(args::Cli { command: args::Command::Run(args) }) => run_to_the_end(&args),
        Err(error) => {
            // Nobody reads: the status says it all the same.
            let _ = error.print();
            exit::End::Status(if error.use_stderr() { exit::USAGE } else { 0 })
        }
    };
    say::flush();
    if let exit::End::Signal(signal) = end {
        events::die_by(signal);
    }
    ExitCode::from(end.status())
}

#[cfg(unix)]
fn run_to_the_end(args: &args::RunArgs) -> exit::End {
    let runtime = descriptors().and_then(|()| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| exit::Failure::new(exit::UNAVAILABLE, "cannot start").because(&error))
    });
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(failure) => return failure.show(),
    };
    let end = runtime.block_on(run::run(args)).unwrap_or_else(exit::Failure::show);
    // The process ends now: what a library left on its threads is not waited for.
    runtime.shutdown_background();
    end
}

/// How many files `dlock` opens at most by itself, generously counted.
#[cfg(unix)]
const DESCRIPTORS: usize = 24;

/// Checks that files can be opened, which the runtime takes for granted.
#[cfg(unix)]
fn descriptors() -> Result<(), exit::Failure> {
    let opened: Result<Vec<_>, _> =
        (0..DESCRIPTORS).map(|_| rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 0)).collect();
    opened.map(drop).map_err(|error| {
        let message = format!(
            "too few open files are allowed: dlock needs {DESCRIPTORS} more; raise the limit with \
             `ulimit -n`"
        );
        exit::Failure::new(exit::UNAVAILABLE, message).because(&error)
    })
}

#[cfg(not(unix))]
fn main() -> ExitCode {
    say::say("dlock runs on Unix systems only: it hands signals and terminals to the command");
    say::flush();
    ExitCode::FAILURE
}
