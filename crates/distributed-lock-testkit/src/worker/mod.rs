//! Another process that uses locks: told what to do on its input, telling what happened on its
//! output.
//!
//! A fault that ends a process, or stops it, must strike a real one. This is the program for it; who
//! makes an executable of it, or a test that plays this part when its environment says so, passes
//! [`run`] the way to connect:
//!
//! ```no_run
//! use distributed_lock_core::DynLockProvider;
//! use distributed_lock_core::memory::MemoryLockProvider;
//! use distributed_lock_testkit::worker;
//!
//! worker::run(async |_url: &str| Ok(DynLockProvider::new(MemoryLockProvider::builder().build())));
//! ```
//!
//! The input has one [`Command`] a line; the worker ends with its input. Its output has
//! [`Event`](crate::history::Event)s, each a line of its own after `worker says`, and the word
//! `resting` when random load that was told to rest has ended.

mod command;
mod hold;
mod journal;
mod load;
pub mod random;
mod resource;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use distributed_lock_core::DynLockProvider;
use distributed_lock_core::error::LockResult;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use self::command::{Command, Primitive, Target};
pub(crate) use self::hold::DROPPED;
use self::hold::{Held, Leaving, Request, Site, TokenIsDrawn};
use self::journal::Journal;
pub(crate) use self::journal::SAYS;
use self::load::Load;

/// Does what the input says until it ends.
///
/// Everything runs on one thread, so that the log of what tasks ask for has the order in which they
/// did.
///
/// # Panics
/// If a command cannot be understood or the provider not be made: then the test is wrong.
pub fn run(connect: impl AsyncFn(&str) -> LockResult<DynLockProvider>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut commands = commands();
        let Some(first) = commands.recv().await else { return };
        let Command::Connect { who, resources, url } = first else {
            panic!("the first command must say what to connect to, not {first}");
        };
        let provider = connect(&url).await.unwrap_or_else(|error| panic!("{url}: {error:?}"));
        let journal = Arc::new(Journal::of(who));
        Worker::new(Site { provider, resources: resources.into(), journal }).run(commands).await;
    });
}

/// The input's commands, as they come.
fn commands() -> mpsc::UnboundedReceiver<Command> {
    let (send, commands) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lines() {
            let Ok(line) = line else { return };
            let Some(command) = Command::parse(&line) else { panic!("no such command: {line:?}") };
            if send.send(command).is_err() {
                return;
            }
        }
    });
    commands
}

struct Worker {
    site: Site,
    load: Option<Load>,
    acquiring: JoinSet<Option<Held>>,
    held: HashMap<u64, Held>,
}

impl Worker {
    fn new(site: Site) -> Self {
        Self { site, load: None, acquiring: JoinSet::new(), held: HashMap::new() }
    }

    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        loop {
            tokio::select! {
                biased;
                Some(granted) = self.acquiring.join_next() => {
                    if let Some(held) = granted.expect("the task does not panic") {
                        self.held.insert(held.attempt(), held);
                    }
                }
                command = commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => return,
                },
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Load { seed, tasks, targets } => {
                self.load = Some(Load::start(&self.site, seed, tasks, targets));
            }
            Command::Rest => {
                if let Some(load) = self.load.take() {
                    load.rest().await;
                }
            }
            Command::Acquire { attempt, primitive, timeout, lock } => {
                let token = TokenIsDrawn::AtOnce;
                let request = Request { attempt, primitive, timeout, lock, token };
                let site = self.site.clone();
                self.acquiring.spawn(async move { site.acquire(request).await });
            }
            Command::Write { attempt } => {
                if let Some(held) = self.held.get_mut(&attempt) {
                    held.write().await;
                }
            }
            Command::Release { attempt } => {
                if let Some(held) = self.held.remove(&attempt) {
                    held.leave(Leaving::Releases).await;
                }
            }
            Command::Connect { .. } => panic!("this worker is connected already"),
        }
    }
}
