//! Another user who swaps everything on the way to the lock files.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use distributed_lock_core::Mode;
use distributed_lock_core::prelude::*;
use distributed_lock_file::{FileLockHandle, FileLockProvider};
use distributed_lock_testkit::neighbour::Street;
use distributed_lock_testkit::worker::random::Random;
use tokio::time::Instant;

use crate::worker::{Worker, say, told};

const SWAPPED_FOR: Duration = Duration::from_secs(10);
const WAIT: Duration = Duration::from_millis(50);

/// A call takes its wait and, on files, almost nothing more; machines are busy.
const LONGEST_CALL: Duration = Duration::from_secs(3);

/// Two that do not know of each other: 1.1 s, and as much again for a busy machine.
const LONGEST_OVERLAP: Duration = Duration::from_millis(2200);

/// The neighbour: swaps from the seed that it is told until it is told to end.
pub(crate) fn swap_until_told(directory: &Path) {
    let seed = told().unwrap().parse().unwrap();
    let end = std::thread::spawn(told);
    let swaps = Street::at(directory).swap(seed, || !end.is_finished());
    say(&swaps.to_string());
}

fn shared(directory: &Path) -> FileLockProvider {
    FileLockProvider::builder().mode(0o666).allow_shared_directory(true).build(directory).unwrap()
}

/// The mutexes that are held at this moment, as far as their holders know.
#[derive(Default)]
struct Holders {
    held: Mutex<HashMap<u64, Arc<FileLockHandle>>>,
    acquired: AtomicU64,
    lost: AtomicU64,
}

impl Holders {
    async fn hold(&self, handle: FileLockHandle, time: Duration) {
        let (id, handle) = (self.acquired.fetch_add(1, Ordering::SeqCst), Arc::new(handle));
        self.held.lock().unwrap().insert(id, Arc::clone(&handle));
        let lost = tokio::time::timeout(time, handle.lost_token().cancelled()).await.is_ok();
        self.held.lock().unwrap().remove(&id);
        self.lost.fetch_add(u64::from(lost), Ordering::SeqCst);
    }

    fn unaware(&self) -> Vec<u64> {
        let held = self.held.lock().unwrap();
        held.iter().filter(|(_, handle)| !handle.is_lost()).map(|(id, _)| *id).collect()
    }

    /// Looks all the time whether two hold and neither has been notified.
    async fn watch(&self) {
        let mut overlaps = HashMap::<(u64, u64), Instant>::new();
        loop {
            let unaware = self.unaware();
            let pairs =
                unaware.iter().flat_map(|one| unaware.iter().map(move |other| (*one, *other)));
            let pairs: Vec<_> = pairs.filter(|(one, other)| one < other).collect();
            overlaps.retain(|pair, _| pairs.contains(pair));
            for pair in pairs {
                let since = overlaps.entry(pair).or_insert_with(Instant::now);
                assert!(since.elapsed() <= LONGEST_OVERLAP, "two hold and none is notified");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Locks, waits, asks and builds at random. Errors are what the neighbour is after; hanging is not
/// allowed.
async fn use_locks(mut provider: FileLockProvider, directory: &Path, holders: &Holders, seed: u64) {
    let mut random = Random::new(seed);
    let until = Instant::now() + SWAPPED_FOR;
    while Instant::now() < until {
        let called = Instant::now();
        let step = random.below(12);
        match step {
            0 => drop(provider.holder("name", Mode::Exclusive).await),
            1 => drop(provider.create_reader_writer_lock("shared").acquire_read(Some(WAIT)).await),
            2 => drop(provider.create_reader_writer_lock("shared").acquire_write(Some(WAIT)).await),
            3 => drop(provider.create_semaphore("permits", 2).acquire(Some(WAIT)).await),
            4 => {
                let builder = FileLockProvider::builder().mode(0o666).allow_shared_directory(true);
                provider = builder.build(directory).unwrap_or(provider);
            }
            5 => {
                let day = Duration::from_secs(24 * 60 * 60);
                let builder = FileLockProvider::builder().mode(0o666).allow_shared_directory(true);
                let _ = builder.remove_unused(directory, day);
            }
            _ => {
                let held = provider.acquire_lock("name", Some(WAIT)).await;
                let took = called.elapsed();
                assert!(took <= LONGEST_CALL, "acquire took {took:?}");
                let Ok(held) = held else { continue };
                if step == 6 {
                    let _ = held.fencing_token().await;
                }
                let long = random.percent(10);
                let time = Duration::from_millis(if long { 3000 } else { 10 });
                holders.hold(held, random.up_to(time)).await;
                continue;
            }
        }
        let took = called.elapsed();
        assert!(took <= LONGEST_CALL, "step {step} took {took:?}");
        // So that a call that fails at once leaves room for others.
        tokio::time::sleep(random.up_to(Duration::from_millis(1))).await;
    }
}

#[test]
fn row_72_a_swapping_neighbour_causes_no_hang_no_write_and_no_silent_loss() {
    let root = tempfile::tempdir().unwrap();
    let street = Street::create(root.path()).unwrap();
    let seed = RandomState::new().hash_one(0) >> 1;
    println!("seed {seed}");
    let mut neighbour = Worker::start_as("neighbour", root.path(), street.neighbour());
    let directory = street.lock_directory();
    let users = [(); 4].map(|()| shared(&directory));
    let (send, done) = mpsc::channel();
    let holders = Arc::new(Holders::default());
    let used = {
        let (holders, directory, users) = (Arc::clone(&holders), directory.clone(), users.clone());
        std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(3).enable_all().build().unwrap();
            let tasks = users.into_iter().zip(seed..).map(|(provider, seed)| {
                let (holders, directory) = (Arc::clone(&holders), directory.clone());
                runtime.spawn(async move { use_locks(provider, &directory, &holders, seed).await })
            });
            let tasks: Vec<_> = tasks.collect();
            runtime.block_on(async {
                tokio::select! {
                    () = holders.watch() => {}
                    () = async { for task in tasks { task.await.unwrap() } } => {}
                }
            });
            send.send(()).unwrap();
        })
    };
    neighbour.tell(&seed.to_string());
    // A call that hangs in the kernel cannot be interrupted: it is found by this time.
    let ended = done.recv_timeout(SWAPPED_FOR + Duration::from_secs(30));
    neighbour.tell("end");
    let swaps: u64 = neighbour.hears().parse().unwrap();
    neighbour.ends();
    if ended.is_err() && used.is_finished() {
        used.join().unwrap();
    }
    ended.expect("no call hangs");
    let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    let (acquired, lost) = (count(&holders.acquired), count(&holders.lost));
    println!("{swaps} swaps, {acquired} acquired, {lost} lost");
    assert!(swaps >= 50 && acquired >= 20 && lost >= 1, "the trial proves nothing");
    if street.neighbour().is_some() {
        assert!(street.is_untouched().unwrap(), "written outside");
    }

    // All is well again, and the providers are as good as new.
    street.tidy().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let held = users[0].acquire_lock("name", Some(LONGEST_CALL)).await.unwrap();
        assert!(users[1].try_acquire_lock("name").await.unwrap().is_none());
        held.release().await.unwrap();
    });
}
