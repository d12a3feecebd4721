//! The steps of a walk.

use std::time::Duration;

use crate::worker::random::Random;

/// One step. Numbers choose among what there is at that moment, so that every sequence of steps
/// means something; a step for which there is nothing does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A client asks; `.1` chooses the mode and how long it waits.
    Acquire(u32, u32),
    /// An acquire is dropped.
    Cancel(u32),
    /// A holder gives back.
    Release(u32),
    /// The future of a release is dropped; the release goes on in the background.
    DropRelease(u32),
    /// A client extends what it holds.
    Extend(u32),
    /// A holder draws its fencing token.
    Draw(u32),
    /// A server executes all requests of an open link, and the client gets all replies.
    Serve(u32),
    /// The same for every open link, until nothing is on its way.
    ServeAll,
    /// A server executes one request of an open link.
    Execute(u32),
    /// A client gets one reply or message.
    Deliver(u32),
    /// A message is lost.
    LoseMessage(u32),
    /// A link is closed; `.1`: whether the server notices.
    Close(u32, bool),
    /// All links of a client are closed, and no server notices.
    CloseAll(u32),
    /// A server executes a request of a closed link.
    Late(u32),
    /// What is on its way on a closed link is lost.
    LoseRequests(u32),
    /// Time passes.
    Advance(Duration),
    /// A server's clock is changed, in ms.
    StepClock(u32, i64),
    /// A server's memory runs out, or is there again.
    Memory(u32, bool),
    /// A client of another kind takes the mutex key if it is free.
    ForeignAcquire(Duration),
    /// It gives it back if it still has it.
    ForeignRelease,
    /// A client dies, and another is started; `.1`: whether servers notice.
    Kill(u32, bool),
}

/// What an episode is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scene {
    /// Permits of a semaphore; 0 for a lock.
    pub permits: u32,
    /// How many of a hundred acquires of a lock are by readers.
    pub readers: u64,
    /// Clients.
    pub clients: usize,
    /// Servers.
    pub servers: usize,
    /// Index of the lease among those that the subject is built with.
    pub lease: usize,
    /// Whether clocks are changed.
    pub clocks: bool,
    /// Whether memory runs out.
    pub memory: bool,
    /// Whether other programs use the key.
    pub foreign: bool,
    /// Whether waiters at the end are served; else they are cancelled.
    pub served_at_end: bool,
}

impl Scene {
    pub(super) fn random(random: &mut Random, leases: usize, servers: usize) -> Self {
        let kind = random.below(10);
        Self {
            permits: if kind < 2 { 1 + u32::try_from(random.below(3)).unwrap_or(0) } else { 0 },
            readers: if kind < 6 { 0 } else { 50 },
            clients: 2 + index(random.below(2)),
            servers,
            lease: index(random.below(leases as u64)),
            clocks: random.percent(15),
            memory: random.percent(15),
            // It takes its key on one server.
            foreign: kind >= 2 && random.percent(20) && servers == 1,
            served_at_end: random.percent(60),
        }
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

impl Action {
    pub(super) fn random(random: &mut Random, scene: &Scene) -> Self {
        let ms = Duration::from_millis;
        let any = |random: &mut Random| u32::try_from(random.below(1 << 16)).unwrap_or(0);
        let a = any(random);
        match random.below(100) {
            0..=13 => Self::Acquire(a, any(random)),
            14..=18 => Self::Cancel(a),
            19..=26 => Self::Release(a),
            27 => Self::DropRelease(a),
            28..=31 => Self::Extend(a),
            32..=33 => Self::Draw(a),
            34..=45 => Self::Serve(a),
            46..=51 => Self::ServeAll,
            52..=63 => Self::Execute(a),
            64..=70 => Self::Deliver(a),
            71 => Self::LoseMessage(a),
            72..=74 if scene.servers > 1 => Self::CloseAll(a),
            72..=76 => Self::Close(a, random.percent(70)),
            77..=82 => Self::Late(a),
            83 => Self::LoseRequests(a),
            84..=94 => Self::Advance(match random.below(10) {
                0..=3 => ms(1 + random.below(20)),
                4..=6 => ms(20 + random.below(300)),
                7..=8 => ms(300 + random.below(1200)),
                _ => ms(1500 + random.below(3000)),
            }),
            95 if scene.clocks => {
                Self::StepClock(a, i64::try_from(random.below(20_000)).unwrap_or(0) - 15_000)
            }
            96 if scene.memory => Self::Memory(a, random.percent(40)),
            97 if scene.foreign => Self::ForeignAcquire(ms(500 + random.below(5000))),
            98 if scene.foreign => Self::ForeignRelease,
            99 if random.percent(30) => Self::Kill(a, random.percent(50)),
            _ => Self::Serve(a),
        }
    }
}
