//! Chaos on lock files: eight processes under random load, killed, stopped and robbed of their
//! files.
//!
//! `CHAOS_SECONDS` says for how long (15 if it says nothing), `CHAOS_SEED` with which seed.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "it is a test")]

use std::env;
use std::process::Command;
use std::time::Duration;

use distributed_lock::{connect, name};
use distributed_lock_testkit::chaos::{Plan, run_on_files};
use distributed_lock_testkit::nemesis::Crew;
use distributed_lock_testkit::nemesis::files::LockFiles;
use distributed_lock_testkit::worker::{self, Primitive, Target};

/// Makes this test program a worker.
const ROLE: &str = "DISTRIBUTED_LOCK_CHAOS_WORKER";

/// What must have happened in a minute for a run to count, at least.
const ACQUIRED_IN_A_MINUTE: u64 = 5_000;
const FAULTS_IN_A_MINUTE: u64 = 50;

/// Where a worker starts. Run as a test, it has nothing to do.
#[test]
fn worker_entry() {
    if env::var_os(ROLE).is_some() {
        worker::run(connect);
    }
}

fn worker_program() -> Command {
    let mut program = Command::new(env::current_exe().unwrap());
    program.args(["--exact", "worker_entry", "--nocapture"]).env(ROLE, "yes");
    program
}

#[test]
fn locks_on_files_keep_their_promises_in_chaos() {
    let seconds = number("CHAOS_SECONDS").unwrap_or(15);
    let seed = number("CHAOS_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("seed {seed}");
    let lock = [Primitive::Mutex, Primitive::Write, Primitive::Read, Primitive::Read];
    let plan = Plan {
        seed,
        length: Duration::from_secs(seconds),
        tasks: 3,
        targets: vec![
            Target::new("mutex", &[Primitive::Mutex]),
            Target::new("both", &lock),
            Target::new("busy", &lock),
            Target::new("three", &[Primitive::Permit(3)]),
            Target::new("one", &[Primitive::Permit(1)]),
        ],
    };
    let directory = tempfile::tempdir().unwrap();
    let resources = directory.path().join("resources");
    std::fs::create_dir(&resources).unwrap();
    let stem =
        |lock: &str| name::lock_file_name(lock).unwrap().trim_end_matches(".lock").to_owned();
    let files = LockFiles::create(directory.path().join("locks"), stem).unwrap();
    if !files.can_be_filled() {
        println!("SKIPPED: a full disk, because no file system may be mounted here");
    }
    let crew = Crew::start(worker_program, files.url(), resources, 8);
    let report = run_on_files(&plan, &files, crew);

    println!("{report}");
    if !report.failures.is_empty() {
        println!("the history is in {}", report.keep().unwrap().display());
    }
    assert!(report.failures.is_empty(), "{} violations", report.failures.len());
    let enough = |in_a_minute: u64| usize::try_from(in_a_minute * seconds / 60).unwrap();
    assert!(report.tally.acquired >= enough(ACQUIRED_IN_A_MINUTE), "too few locks acquired");
    for (kind, (effective, _)) in &report.tally.effective {
        assert!(*effective >= enough(FAULTS_IN_A_MINUTE), "{kind:?}: too few took effect");
    }
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap())
}
