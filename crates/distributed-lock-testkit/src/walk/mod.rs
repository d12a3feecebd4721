//! A random walk of a driver's own requests on real Redis servers, with simulated time.
//!
//! What is real: the servers, which execute the driver's scripts and commands as they are sent, under
//! a wall clock that only the walk moves ([`ClockShift`](crate::servers::ClockShift)); the driver with
//! its client, sockets and scripts; tokio's timers, on a paused clock.
//!
//! What is simulated: the network. Every link ends in the walk, which lets a server execute each
//! request, and a client see each reply and message, when it chooses: late, out of order between
//! links, after the client has closed the link, or never.
//!
//! What is modelled: the engine, in the file `engine.rs`. It is a copy of how the engine calls a
//! driver, so that the walk can drop each future at any await.
//!
//! After each step the walk compares what the servers have with who believes to hold: a lease counts
//! by the client's clock from before its request was sent. The invariants:
//!
//! - No two clients believe to hold what excludes the other; nor do more than N hold a permit. A
//!   client of another kind (`SET NX PX`, compare and delete) counts. A lease that a clock's step
//!   forward may have ended early does not.
//! - A client that has ticked in time is not overtaken by one that came to the server's queue later.
//! - An attempt that was released or withdrawn never owns the lock again.
//! - A lock is lost only if something took it; a try is refused only if others hold or wait.
//! - Every key has an expiry. Of two conflicting holds the later has the greater token.
//! - At the end everything on its way arrives and every holder releases: within a fallback period's
//!   bound every waiter is served, then every mode can be acquired at once, and nothing is left.
//!
//! Of several servers a minority may have what is still being undone: it is given back later by a thread
//! whose time is real. What is checked there is that no majority has an attempt that is over, and that
//! all of it ends with its lease.
//!
//! A failing episode is repeated with fewer and fewer steps. [`Mutant`]s are wrong variants, to see
//! what the walk is worth.

mod action;
mod check;
mod contender;
mod engine;
mod harvest;
mod mutant;
mod network;
mod quiet;
mod resp;
mod server;
mod state;
mod world;

use std::fmt;
use std::time::Duration;

use distributed_lock_core::clock::TokioClock;
use distributed_lock_core::driver::Driver;

pub use self::action::{Action, Scene};
pub use self::mutant::{Mutant, Wrong};
use self::server::Server;
use self::world::World;
use crate::worker::random::Random;

/// How many steps an episode has.
const EPISODE: usize = 120;

/// What walks.
pub trait Subject {
    /// A driver of the product.
    type Driver: Driver;

    /// How many servers it locks on.
    const SERVERS: usize;

    /// Whether it promises the order of the server's queue.
    const IS_FAIR: bool;

    /// The leases that episodes are played with.
    fn leases(&self) -> &[Duration];

    /// A client of the servers at these URLs, with one of the leases.
    fn driver(
        &self,
        urls: Vec<String>,
        lease: usize,
        clock: TokioClock,
    ) -> impl Future<Output = Self::Driver> + Send + 'static;
}

/// A walk that can go on: servers, and what walks there.
#[derive(Debug)]
pub struct Walk<S> {
    subject: S,
    servers: Vec<Server>,
}

/// How far a walk came.
#[derive(Debug, Default)]
pub struct Walked {
    /// Steps.
    pub steps: usize,
    /// Requests that servers have executed.
    pub requests: usize,
    /// Grants.
    pub grants: usize,
    /// What was broken, if anything was.
    pub failure: Option<Failure>,
}

/// A broken invariant.
#[derive(Debug)]
pub struct Failure {
    /// The seed of the episode.
    pub seed: u64,
    /// What was broken.
    pub reason: String,
    /// What the episode was about.
    pub scene: Scene,
    /// The steps that break it.
    pub actions: Vec<Action>,
    /// What happens in them, once they are as few as possible.
    pub log: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} (seed {}, {} steps)", self.reason, self.seed, self.actions.len())?;
        writeln!(f, "{:?}", self.scene)?;
        self.log.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

struct Played {
    steps: usize,
    requests: usize,
    grants: usize,
    broken: Option<String>,
    log: Vec<String>,
}

impl<S: Subject> Walk<S> {
    /// Starts the servers, and lets them know the scripts.
    pub fn new(subject: S) -> Self {
        let servers = (0..S::SERVERS).map(|_| Server::start()).collect();
        let mut walk = Self { subject, servers };
        for seed in 0..8 {
            let (scene, actions) = walk.episode(seed);
            walk.play(scene, &actions, None, false);
        }
        walk
    }

    /// Walks this many steps at least, or until something breaks.
    pub fn go(&mut self, seed: u64, steps: usize, mutant: Option<&'static Mutant>) -> Walked {
        if let Some(mutant) = mutant {
            let texts: Vec<String> = self.servers[0].texts().map(str::to_owned).collect();
            mutant.must_apply(texts.iter().map(String::as_str));
        }
        let mut walked = Walked::default();
        let mut seeds = Random::new(seed);
        while walked.steps < steps && walked.failure.is_none() {
            let seed = seeds.number();
            let (scene, actions) = self.episode(seed);
            let played = self.play(scene, &actions, mutant, false);
            walked.steps += played.steps;
            walked.requests += played.requests;
            walked.grants += played.grants;
            if let Some(reason) = played.broken {
                let mut actions = actions;
                actions.truncate(played.steps);
                let log = Vec::new();
                walked.failure = Some(Failure { seed, reason, scene, actions, log });
            }
        }
        walked
    }

    fn episode(&self, seed: u64) -> (Scene, Vec<Action>) {
        let mut random = Random::new(seed);
        let scene = Scene::random(&mut random, self.subject.leases().len(), S::SERVERS);
        let actions = (0..EPISODE).map(|_| Action::random(&mut random, &scene)).collect();
        (scene, actions)
    }

    fn play(
        &mut self,
        scene: Scene,
        actions: &[Action],
        mutant: Option<&'static Mutant>,
        logs: bool,
    ) -> Played {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let Self { subject, servers } = self;
        runtime.block_on(async {
            let mut world = World::new(&*subject, scene, servers, mutant, logs).await;
            let mut verdict = Ok(());
            for action in actions {
                verdict = world.take(*action).await;
                if verdict.is_err() {
                    break;
                }
            }
            let steps = world.step;
            if verdict.is_ok() {
                verdict = world.quiet().await;
            }
            Played {
                steps,
                requests: world.network.executed,
                grants: world.grants,
                broken: verdict.err(),
                log: world.log.take().unwrap_or_default(),
            }
        })
    }

    /// The same with as few steps as possible, and what happens in them.
    pub fn shrink(&mut self, mut failure: Failure, mutant: Option<&'static Mutant>) -> Failure {
        let scene = failure.scene;
        let mut length = failure.actions.len().div_ceil(2);
        while length > 0 {
            let (mut at, mut found) = (0, false);
            while at < failure.actions.len() {
                let mut fewer = failure.actions.clone();
                fewer.drain(at..(at + length).min(fewer.len()));
                match self.play(scene, &fewer, mutant, false).broken {
                    Some(reason) => {
                        (failure.actions, failure.reason, found) = (fewer, reason, true);
                    }
                    None => at += length,
                }
            }
            if !found || length > 1 {
                length /= 2;
            }
        }
        failure.log = self.play(scene, &failure.actions, mutant, true).log;
        failure
    }
}
