//! A process that was forked: only the thread that forked goes on in it.

#![cfg(all(unix, feature = "file"))]

use std::sync::mpsc;
use std::time::Duration;

use distributed_lock::{FileLockHandle, FileLockProvider, LockError, blocking};
use fork::Fork;

type Provider = blocking::Provider<FileLockProvider>;

/// A blocking call in a forked process neither waits for a thread that is not there nor touches what
/// its parent holds.
#[test]
fn a_forked_process_has_locks_of_its_own_and_leaves_its_parents_alone() {
    let directory = tempfile::tempdir().unwrap();
    let build = || {
        let directory = directory.path().to_owned();
        blocking::Provider::new(|| async { FileLockProvider::builder().build(directory) })
    };
    let (here, there): (Provider, Provider) = (build().unwrap(), build().unwrap());
    let [released, dropped] =
        ["released", "dropped"].map(|name| here.acquire_lock(name, None).unwrap());
    let status = match fork::fork().unwrap() {
        Fork::Child => std::process::exit(match in_the_child(&here, released, dropped, build) {
            Ok(()) => 0,
            Err(step) => step,
        }),
        Fork::Parent(child) => {
            let (send, ended) = mpsc::channel();
            std::thread::spawn(move || send.send(fork::waitpid(child)));
            ended.recv_timeout(Duration::from_secs(30)).expect("the child hangs").unwrap()
        }
    };
    assert_eq!((status >> 8, status & 0x7f), (0, 0), "the child's failed step, or its signal");
    for (name, held) in [("released", released), ("dropped", dropped)] {
        assert!(!held.is_lost());
        assert!(there.try_acquire_lock(name).unwrap().is_none(), "{name} was freed by the child");
        held.release().unwrap();
        assert!(there.try_acquire_lock(name).unwrap().is_some(), "{name} is not free");
    }
}

/// The number of the step that failed.
fn in_the_child(
    here: &Provider,
    released: blocking::Handle<FileLockHandle>,
    dropped: blocking::Handle<FileLockHandle>,
    build: impl FnOnce() -> Result<Provider, LockError>,
) -> Result<(), i32> {
    let explains =
        |error: &LockError| matches!(error, LockError::Config(why) if why.contains("fork"));
    let tried = here.try_acquire_lock("new");
    tried.err().filter(|error| explains(error)).ok_or(1)?;
    released.release().err().filter(|error| explains(error)).ok_or(2)?;
    drop(dropped);
    let own = build().map_err(|_| 3)?;
    for name in ["released", "dropped"] {
        // Its parent has it still.
        if own.try_acquire_lock(name).map_err(|_| 4)?.is_some() {
            return Err(5);
        }
    }
    let new = own.acquire_lock("new", Some(Duration::from_secs(5))).map_err(|_| 6)?;
    new.release().map_err(|_| 7)
}
