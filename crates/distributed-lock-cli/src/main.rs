//! `dlock` runs a command under a distributed lock.
//!
//! - [`args`] and [`help`]: what the user says and is told
//! - [`service`]: where the lock is; [`default_dir`]: the place if nobody says
//! - [`run`]: the run from connecting to releasing, made of
//!   [`acquire`], [`child`], [`tied`], [`supervise`], [`loss`], [`terminal`] and [`signals`]
//! - [`exit`]: every exit status; [`say`]: everything that is printed

#[cfg(unix)]
mod acquire;
#[cfg(unix)]
mod args;
#[cfg(unix)]
mod child;
#[cfg(unix)]
mod default_dir;
#[cfg(unix)]
mod exit;
#[cfg(unix)]
mod help;
#[cfg(unix)]
mod loss;
#[cfg(unix)]
mod run;
mod say;
#[cfg(unix)]
mod service;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
mod supervise;
#[cfg(unix)]
mod terminal;
#[cfg(target_os = "linux")]
mod tied;

use std::process::ExitCode;

#[cfg(unix)]
fn main() -> ExitCode {
    use clap::Parser;

    let status = match args::Cli::try_parse() {
        Ok(args::Cli { command: args::Command::Run(args) }) => run_to_the_end(&args),
        #[cfg(target_os = "linux")]
        Ok(args::Cli { command: args::Command::Tied(args) }) => tied::run(&args),
        Err(error) => {
            // Nobody reads: the status says it all the same.
            let _ = error.print();
            if error.use_stderr() { exit::USAGE } else { 0 }
        }
    };
    ExitCode::from(status)
}

#[cfg(unix)]
fn run_to_the_end(args: &args::RunArgs) -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = exit::Failure::new(exit::UNAVAILABLE, "cannot start");
            return failure.because(&error).tell();
        }
    };
    let status = runtime.block_on(run::run(args)).unwrap_or_else(exit::Failure::tell);
    // The process ends now: what a library left on its threads is not waited for.
    runtime.shutdown_background();
    status
}

#[cfg(not(unix))]
fn main() -> ExitCode {
    say::say("dlock runs on Unix systems only: it hands signals and terminals to the command");
    ExitCode::FAILURE
}
