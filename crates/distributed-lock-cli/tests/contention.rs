//! Many `dlock` processes at once, some of them killed.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

const DLOCK: &str = env!("CARGO_BIN_EXE_dlock");

/// A shell in `directory` that runs `script` with `$run` for a run under the lock.
fn shell(directory: &Path, script: &str) -> Child {
    let run = format!("{DLOCK} run --quiet --url file://{}/locks counter --", directory.display());
    Command::new("sh")
        .args(["-c", script])
        .env("run", run)
        .current_dir(directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn output(shell: Child) -> String {
    let output = shell.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8(text).unwrap()
}

#[test]
fn four_shells_count_to_exactly_1000() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("f"), "0\n").unwrap();
    let script = "i=0; while [ $i -lt 250 ]; do i=$((i+1)); \
                  $run sh -c 'read n < f; echo $((n+1)) > f' || echo failed; done";
    let shells: Vec<_> = (0..4).map(|_| shell(directory.path(), script)).collect();
    for shell in shells {
        assert_eq!(output(shell), "");
    }
    assert_eq!(std::fs::read_to_string(directory.path().join("f")).unwrap(), "1000\n");
}

/// A `dlock` that can be killed from another thread as long as it has not been reaped.
type Slot = Mutex<Option<Child>>;

/// Runs `dlock` again and again, each time in the slot.
fn run_in(slot: &Slot, directory: &Path) {
    let url = format!("file://{}/locks", directory.display());
    let probe = "mkdir d || echo OVERLAP; sleep 0.05; rmdir d || echo OVERLAP";
    for _ in 0..25 {
        let child = Command::new(DLOCK)
            .args(["run", "--quiet", "--url", &url, "probe", "--", "sh", "-c", probe])
            .current_dir(directory)
            .stdout(File::options().append(true).open(directory.join("told")).unwrap())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        *slot.lock().unwrap() = Some(child);
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        slot.lock().unwrap().take().unwrap().wait().unwrap();
    }
}

/// The lock lasts as long as the command, so killing `dlock` lets nobody in.
#[test]
fn row_48_killed_locks_never_overlap() {
    let directory = tempfile::tempdir().unwrap();
    File::create(directory.path().join("told")).unwrap();
    let slots: [Slot; 4] = Default::default();
    let done = AtomicBool::new(false);
    let killed = std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let (mut killed, mut random) = (0, Random::seeded());
            while !done.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_millis(random.below(40)));
                let slot = &slots[usize::try_from(random.below(4)).unwrap()];
                if let Some(child) = &mut *slot.lock().unwrap() {
                    child.kill().unwrap();
                    killed += 1;
                }
            }
            killed
        });
        let runs: Vec<_> =
            slots.iter().map(|slot| scope.spawn(|| run_in(slot, directory.path()))).collect();
        runs.into_iter().for_each(|run| run.join().unwrap());
        done.store(true, Ordering::Relaxed);
        killer.join().unwrap()
    });
    // Commands whose `dlock` was killed may still run; behind them, all have told.
    let url = format!("file://{}/locks", directory.path().display());
    let last = Command::new(DLOCK).args(["run", "--url", &url, "probe", "--", "true"]).status();
    assert!(last.unwrap().success());
    let told = std::fs::read_to_string(directory.path().join("told")).unwrap();
    assert_eq!(told, "", "{killed} were killed");
    println!("{killed} of 100 runs were killed");
    assert!(killed >= 10, "only {killed} were hit");
}

/// A small generator (xorshift64, Marsaglia 2003), whose seed is printed.
struct Random(u64);

impl Random {
    fn seeded() -> Self {
        let seed = RandomState::new().hash_one(()) | 1;
        println!("seed {seed}");
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
