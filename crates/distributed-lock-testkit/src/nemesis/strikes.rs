//! The faults, one at a time.

use std::time::Duration;

use super::crew::Crew;
use super::files::{LockFiles, Obstacle};
use super::record::Hold;
use crate::history::{Event, What, now};
use crate::worker::random::Random;

/// How long a victim is waited for: somebody who holds, somebody who asks.
const VICTIM_WITHIN: Duration = Duration::from_millis(200);

/// How long workers are stopped at most.
const LONGEST_STOP: Duration = Duration::from_millis(100);

/// How long they are stopped at least: longer than most hold a lock.
const SHORTEST_STOP: Duration = Duration::from_millis(20);

/// Who logs faults that strike everybody.
pub(super) const NEMESIS: &str = "nemesis";

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A holder's process is killed.
    Killed,
    /// A holder's process is stopped and continued.
    Stopped,
    /// The files of a held lock are removed by a stranger.
    Removed,
    /// The files that help those who wait are removed by a stranger.
    AuxiliaryRemoved,
    /// A lock file cannot be opened for a while.
    Obstructed,
    /// A lock file is gone and there is no room for another for a while.
    FullDisk,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    /// Which fault.
    pub kind: Kind,
    /// The worker it was aimed at; empty for faults that strike all who use the lock.
    pub who: String,
    /// The lock it was aimed at; empty for faults that strike a worker with all its locks.
    pub lock: String,
    /// Whether those who held the lock then do so no more; the death of a holder is another matter.
    pub ends_holds: bool,
    /// Just before it began.
    pub from: Duration,
    /// When it was done: whoever asked before may have met the state before.
    pub done: Duration,
    /// For a fault that lasts, just before it was undone.
    pub until: Duration,
}

/// Strikes a crew and its lock files.
#[derive(Debug)]
pub struct Nemesis<'a> {
    files: &'a LockFiles,
    /// Locks whose one file all holders lock.
    locks: Vec<String>,
    random: Random,
    strikes: Vec<Strike>,
}

impl<'a> Nemesis<'a> {
    /// A nemesis for these locks, which are no semaphores: semaphores have several files, and are
    /// struck by fewer kinds.
    #[must_use]
    pub fn new(files: &'a LockFiles, locks: &[String], seed: u64) -> Self {
        Self { files, locks: locks.to_vec(), random: Random::new(seed), strikes: Vec::new() }
    }

    /// The kinds that are possible here.
    #[must_use]
    pub fn kinds(&self) -> Vec<Kind> {
        let always =
            [Kind::Killed, Kind::Stopped, Kind::Removed, Kind::AuxiliaryRemoved, Kind::Obstructed];
        let full = self.files.can_be_filled().then_some(Kind::FullDisk);
        always.into_iter().chain(full).collect()
    }

    /// What was done so far.
    #[must_use]
    pub fn strikes(&self) -> &[Strike] {
        &self.strikes
    }

    /// Strikes once, if there is anybody to strike; `replaced` is told which worker is new.
    pub fn strike(&mut self, kind: Kind, crew: &mut Crew, replaced: impl FnOnce(&mut Crew, usize)) {
        let Some(hold) = self.victim(crew) else { return };
        let strike = match kind {
            Kind::Killed => {
                let Some(number) = crew.number_of(&hold.who) else { return };
                let from = crew.kill(number);
                replaced(crew, number);
                let (lock, done) = (String::new(), from);
                Some(Strike {
                    kind,
                    who: hold.who,
                    lock,
                    ends_holds: false,
                    from,
                    done,
                    until: from,
                })
            }
            Kind::Stopped => self.stop(crew, hold),
            Kind::Removed => Some(remove(self.files, crew, hold.lock)),
            Kind::AuxiliaryRemoved => self.remove_auxiliary(crew, hold.lock),
            Kind::Obstructed => {
                let obstacle = self.obstacle();
                self.obstruct(crew, kind, hold.lock, obstacle)
            }
            Kind::FullDisk => self.obstruct(crew, kind, hold.lock, Obstacle::FullDisk),
        };
        self.strikes.extend(strike);
    }

    /// Somebody who holds, as far as is known.
    fn victim(&mut self, crew: &Crew) -> Option<Hold> {
        crew.record().wait_held(VICTIM_WITHIN, |holds| !holds.is_empty())?;
        let mut holds = crew.record().holds();
        // The order of a map is not the seed's.
        holds.sort_by(|one, other| (&one.who, &one.lock).cmp(&(&other.who, &other.lock)));
        self.random.pick(&holds).cloned()
    }

    fn stop(&mut self, crew: &Crew, hold: Hold) -> Option<Strike> {
        let number = crew.number_of(&hold.who)?;
        let from = crew.stop(number);
        crew.record().pause(SHORTEST_STOP + self.random.up_to(LONGEST_STOP - SHORTEST_STOP));
        let until = crew.resume(number);
        let (kind, lock) = (Kind::Stopped, String::new());
        Some(Strike { kind, who: hold.who, lock, ends_holds: false, from, done: from, until })
    }

    fn remove_auxiliary(&self, crew: &Crew, lock: String) -> Option<Strike> {
        let kind = Kind::AuxiliaryRemoved;
        let from = crew.record().log(NEMESIS, &lock, What::Fault { kind: "auxiliary".into() });
        let removed = self.files.remove(&self.files.auxiliary(&lock));
        let done = now();
        let who = String::new();
        let strike = Strike { kind, who, lock, ends_holds: false, from, done, until: done };
        (removed > 0).then_some(strike)
    }

    /// Puts an obstacle in a lock's way until somebody has met it.
    fn obstruct(
        &self,
        crew: &Crew,
        kind: Kind,
        lock: String,
        obstacle: Obstacle,
    ) -> Option<Strike> {
        if !self.locks.contains(&lock) {
            return None;
        }
        let file = self.files.locked(&lock).pop()?;
        if obstacle == Obstacle::FullDisk
            && let Err(error) = self.files.fill()
        {
            panic!("the disk cannot be filled: {error}");
        }
        let row = if obstacle.ends_holds() {
            What::FaultEndsHold { row: 33 }
        } else {
            What::Fault { kind: "no permission".into() }
        };
        let (from, ends_holds) = (crew.record().log(NEMESIS, &lock, row), obstacle.ends_holds());
        let obstructed = self.files.obstruct(&file, obstacle);
        let (done, mark) = (now(), crew.record().mark());
        let mut until = from;
        if obstructed.is_ok() {
            let met = |event: &Event| event.lock == lock && is_failure(event);
            crew.record().wait_for(mark, VICTIM_WITHIN, met);
            until = now();
        }
        let cleared = self.files.clear(&file, obstacle);
        if obstructed.is_ok()
            && let Err(error) = cleared
        {
            panic!("{obstacle:?} is still in the way of {lock}: {error}");
        }
        // Half an obstacle may have ended holds, too.
        Some(Strike { kind, who: String::new(), lock, ends_holds, from, done, until })
    }

    fn obstacle(&self) -> Obstacle {
        if rustix::process::geteuid().is_root() {
            Obstacle::Directory
        } else {
            Obstacle::NoPermission
        }
    }
}

/// Removes the files that holders of a lock have locked.
pub(crate) fn remove(files: &LockFiles, crew: &Crew, lock: String) -> Strike {
    let from = crew.record().log(NEMESIS, &lock, What::FaultEndsHold { row: 33 });
    // Listed after that, so that no hold before it is missed.
    files.remove(&files.locked(&lock));
    let done = now();
    let (kind, who) = (Kind::Removed, String::new());
    Strike { kind, who, lock, ends_holds: true, from, done, until: done }
}

/// Whether an acquire failed, by other than its caller's choice.
pub(super) fn is_failure(event: &Event) -> bool {
    matches!(&event.what, What::Failed { error } if error != crate::worker::DROPPED)
}
