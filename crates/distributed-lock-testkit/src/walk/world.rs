//! Clients, servers and what is between them, at one moment of an episode.

use std::sync::Arc;
use std::time::Duration;

use distributed_lock_core::clock::{Clock, Moment, TokioClock};
use distributed_lock_core::driver::{Attempt, Driver, Extension, LossReporter};
use distributed_lock_core::error::LockResult;
use distributed_lock_core::{LockName, Mode};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, yield_now};

use super::Subject;
use super::action::{Action, Scene};
use super::contender::{Contender, Stage, ended};
use super::engine;
use super::mutant::{Mutant, Wrong};
use super::network::Network;
use super::server::Server;

/// How far time goes before everybody has another look.
const TICK: Duration = Duration::from_millis(50);

/// Why a walk failed.
pub(super) type Verdict = Result<(), String>;

pub(super) struct World<'a, S: Subject> {
    subject: &'a S,
    pub(super) scene: Scene,
    pub(super) wrong: Wrong,
    pub(super) network: Network<'a>,
    pub(super) clock: TokioClock,
    began: Moment,
    pub(super) clients: Vec<Client<S::Driver>>,
    pub(super) contenders: Vec<Contender<S::Driver>>,
    pub(super) foreign: Option<Foreign>,
    pub(super) step: usize,
    /// What has happened, if that is to be known.
    pub(super) log: Option<Vec<String>>,
    pub(super) grants: usize,
}

pub(super) struct Client<D: Driver> {
    pub(super) driver: Arc<D>,
    pub(super) extending: Vec<Extending>,
}

/// An extension under way: of which holds, and what it will answer.
type Extending = (Vec<usize>, JoinHandle<LockResult<Vec<Extension>>>);

/// A client of another kind that has the mutex key.
pub(super) struct Foreign {
    value: String,
    pub(super) deadline: Moment,
    pub(super) doubtful: bool,
}

impl<'a, S: Subject> World<'a, S> {
    pub(super) async fn new(
        subject: &'a S,
        scene: Scene,
        servers: &'a mut Vec<Server>,
        mutant: Option<&'static Mutant>,
        logs: bool,
    ) -> Self {
        servers.iter_mut().for_each(|server| server.clear(mutant));
        let clock = TokioClock::default();
        let mut world = Self {
            subject,
            scene,
            wrong: mutant.map_or(Wrong::Nothing, |mutant| mutant.engine),
            network: Network::new(servers),
            clock,
            began: clock.now(),
            clients: Vec::new(),
            contenders: Vec::new(),
            foreign: None,
            step: 0,
            log: logs.then(Vec::new),
            grants: 0,
        };
        for _ in 0..scene.clients {
            world.start_client(None).await;
        }
        world
    }

    async fn start_client(&mut self, replaces: Option<usize>) {
        let number = replaces.unwrap_or(self.clients.len());
        let servers = 0..self.network.servers.len();
        let urls = servers.map(|server| self.network.open_door(number, server)).collect();
        self.network.served = Some(number);
        let building = self.subject.driver(urls, self.scene.lease, self.clock);
        let mut building = Some(tokio::spawn(building));
        let driver = loop {
            yield_now().await;
            self.network.pump();
            if let Some(driver) = ended(&mut building) {
                break Arc::new(driver);
            }
        };
        self.network.served = None;
        let client = Client { driver, extending: Vec::new() };
        match replaces {
            Some(number) => self.clients[number] = client,
            None => self.clients.push(client),
        }
    }

    pub(super) fn lease(&self) -> Duration {
        self.subject.leases()[self.scene.lease]
    }

    pub(super) fn say(&mut self, text: impl FnOnce(&Self) -> String) {
        if self.log.is_some() {
            let text = format!("{:>9.3?} {}", self.network.elapsed, text(self));
            self.log.iter_mut().for_each(|log| log.push(text.clone()));
        }
    }

    /// Lets every task go as far as it can without the network, and looks at what came of it.
    pub(super) async fn settle(&mut self) -> Verdict {
        loop {
            loop {
                // What the first finds to be readable wakes tasks that run in the second.
                yield_now().await;
                yield_now().await;
                if !self.network.pump() {
                    break;
                }
            }
            if !self.harvest()? {
                return self.holders_are_apart();
            }
        }
    }

    /// Takes one step and checks everything.
    pub(super) async fn take(&mut self, action: Action) -> Verdict {
        self.step += 1;
        self.say(|_| format!("{action:?}"));
        match action {
            Action::Acquire(client, how) => self.acquire(client, how),
            Action::Cancel(which) => {
                if let Some(index) = pick(which, self.at(Stage::Acquiring)) {
                    self.cancel(index);
                }
            }
            Action::Release(which) => {
                if let Some(index) = pick(which, self.at(Stage::Held)) {
                    self.release(index);
                }
            }
            Action::DropRelease(which) => {
                if let Some(index) = pick(which, self.at(Stage::Releasing)) {
                    self.contenders[index].abort();
                    self.release(index);
                }
            }
            Action::Extend(which) => self.extend(which),
            Action::Draw(which) => self.draw(which),
            Action::Serve(which) => {
                let busy =
                    self.network.links_where(|l| l.is_open() && (l.has_request() || l.has_reply()));
                if let Some(link) = pick(which, busy) {
                    self.serve(link)?;
                }
            }
            Action::ServeAll => self.serve_all().await?,
            Action::Execute(which) => {
                let busy = self.network.links_where(|link| link.is_open() && link.has_request());
                if let Some(link) = pick(which, busy) {
                    self.execute(link)?;
                }
            }
            Action::Deliver(which) => {
                let busy = self.network.links_where(super::network::Link::has_reply);
                if let Some(link) = pick(which, busy) {
                    self.network.deliver(link);
                }
            }
            Action::LoseMessage(which) => {
                let busy = self.network.links_where(super::network::Link::has_reply);
                if let Some(link) = pick(which, busy) {
                    self.network.lose_message(link);
                }
            }
            Action::Close(which, is_noticed) => {
                let open = self.network.links_where(super::network::Link::is_open);
                if let Some(link) = pick(which, open) {
                    self.network.close(link);
                    match is_noticed {
                        true => self.network.forget_channels(link),
                        false => self.network.keep_half_open(link),
                    }
                }
            }
            Action::CloseAll(which) => {
                let client = which as usize % self.clients.len();
                for link in self.network.links_where(|link| link.is_open() && link.client == client)
                {
                    self.network.close(link);
                    self.network.keep_half_open(link);
                }
            }
            Action::Late(which) => {
                let late = self.network.links_where(|link| !link.is_open() && link.has_request());
                if let Some(link) = pick(which, late) {
                    self.execute(link)?;
                }
            }
            Action::LoseRequests(which) => {
                let late = self.network.links_where(|link| !link.is_open() && link.has_request());
                if let Some(link) = pick(which, late) {
                    self.network.lose_requests(link);
                }
            }
            Action::Advance(time) => self.advance(time).await?,
            Action::StepClock(which, by) => self.step_clock(which, by),
            Action::Memory(which, full) => {
                let server = which as usize % self.network.servers.len();
                self.network.servers[server].set_memory_full(full);
            }
            Action::ForeignAcquire(lease) => self.foreign_acquire(lease),
            Action::ForeignRelease => self.foreign_release(),
            Action::Kill(which, is_noticed) => self.kill(which, is_noticed).await,
        }
        self.settle().await
    }

    pub(super) fn at(&self, stage: Stage) -> Vec<usize> {
        (0..self.contenders.len()).filter(|i| self.contenders[*i].stage == stage).collect()
    }

    fn acquire(&mut self, client: u32, how: u32) {
        let client = client as usize % self.clients.len();
        let mode = match self.scene.permits {
            0 if u64::from(how % 100) < self.scene.readers => Mode::Shared,
            0 => Mode::Exclusive,
            max => Mode::Permit { max },
        };
        let waits = match (how / 100) % 10 {
            0..=3 => None,
            4..=7 => Some(Duration::from_secs(3600)),
            short => Some(Duration::from_millis(u64::from(short - 7) * 700)),
        };
        self.ask(client, mode, waits);
    }

    /// An acquire that the client's local queue lets through; else nothing happens.
    pub(super) fn ask(&mut self, client: usize, mode: Mode, waits: Option<Duration>) {
        let mine = |contender: &&Contender<S::Driver>| contender.client == client;
        let in_the_way = |other: &Contender<S::Driver>| {
            other.occupies() || other.stage == Stage::Held && other.conflicts(mode)
        };
        if self.contenders.iter().filter(mine).any(in_the_way) {
            return;
        }
        let driver = Arc::clone(&self.clients[client].driver);
        let name = LockName::parse("walk").expect("it is short");
        let key = driver.resolve(name, mode).expect("it is a name");
        let attempt = Attempt::new(key, mode, LossReporter::from_fn(|_| ()));
        let token = attempt.token().expect("the system has randomness").to_string();
        let attempt = Arc::new(Mutex::new(attempt));
        let task = engine::acquire(driver, Arc::clone(&attempt), waits);
        let was_blocked = self.is_blocked(mode, &token);
        self.contenders.push(Contender {
            client,
            mode,
            tries: waits.is_none(),
            token,
            attempt,
            stage: Stage::Acquiring,
            acquiring: Some(tokio::spawn(task)),
            cleaning: None,
            drawing: None,
            answered: Arc::default(),
            grant: None,
            deadline: Moment::from_nanos(0),
            held: None,
            drawn: None,
            doubtful: false,
            asked: None,
            queued: None,
            was_blocked,
            overtakes: None,
        });
        self.say(|world| format!("  {} asks: {mode:?}, {waits:?}", world.contenders.len() - 1));
    }

    /// Drops the future of an acquire.
    pub(super) fn cancel(&mut self, index: usize) {
        self.contenders[index].abort();
        self.withdraw(index);
    }

    /// Undoes what an attempt may have left. Its future has ended or is being dropped.
    pub(super) fn withdraw(&mut self, index: usize) {
        let contender = &mut self.contenders[index];
        contender.stage = Stage::Withdrawing;
        let driver = Arc::clone(&self.clients[contender.client].driver);
        let (attempt, answered) = (Arc::clone(&contender.attempt), Arc::clone(&contender.answered));
        let (clock, wrong) = (self.clock, self.wrong);
        contender.cleaning = Some(tokio::spawn(async move {
            if wrong == Wrong::NeverWithdraws || !driver.must_withdraw(&*attempt.lock().await) {
                return Ok(());
            }
            engine::undo(driver, attempt, answered, clock).await
        }));
    }

    pub(super) fn release(&mut self, index: usize) {
        let step = self.step;
        let contender = &mut self.contenders[index];
        if let Some((_, end @ None)) = &mut contender.held {
            *end = Some(step);
        }
        contender.stage = Stage::Releasing;
        let Some(grant) = contender.grant.clone() else { return };
        let driver = Arc::clone(&self.clients[contender.client].driver);
        let attempt = (Arc::clone(&contender.attempt), Arc::clone(&contender.answered));
        let task = engine::release(driver, grant, attempt, self.clock);
        contender.cleaning = Some(tokio::spawn(task));
    }

    fn extend(&mut self, client: u32) {
        let client = client as usize % self.clients.len();
        let held = self.at(Stage::Held);
        let held: Vec<usize> =
            held.into_iter().filter(|i| self.contenders[*i].client == client).collect();
        if held.is_empty() || self.clients[client].extending.len() > 1 {
            return;
        }
        let grants = held.iter().filter_map(|index| self.contenders[*index].grant.clone());
        let driver = Arc::clone(&self.clients[client].driver);
        let task = tokio::spawn(engine::extend(driver, grants.collect()));
        self.clients[client].extending.push((held, task));
    }

    fn draw(&mut self, which: u32) {
        let held = self.at(Stage::Held).into_iter();
        let without = |i: &usize| {
            let contender = &self.contenders[*i];
            contender.drawn.is_none() && contender.drawing.is_none()
        };
        let Some(index) = pick(which, held.filter(without).collect()) else { return };
        let contender = &mut self.contenders[index];
        let Some(grant) = contender.grant.clone() else { return };
        let driver = Arc::clone(&self.clients[contender.client].driver);
        contender.drawing = Some(tokio::spawn(async move { driver.fencing_token(&grant).await }));
    }

    pub(super) fn serve(&mut self, link: usize) -> Verdict {
        // A close in between ends it.
        for _ in 0..self.network.links_where(|_| true).len().max(64) {
            if !self.network.links[link].is_open() || !self.network.links[link].has_request() {
                break;
            }
            self.execute(link)?;
        }
        self.network.deliver_all(link);
        Ok(())
    }

    pub(super) async fn serve_all(&mut self) -> Verdict {
        for _ in 0..100 {
            let busy =
                self.network.links_where(|l| l.is_open() && (l.has_request() || l.has_reply()));
            if busy.is_empty() {
                break;
            }
            for link in busy {
                self.serve(link)?;
            }
            self.settle().await?;
        }
        Ok(())
    }

    pub(super) fn execute(&mut self, link: usize) -> Verdict {
        let server = self.network.links[link].server;
        let is_open = self.network.links[link].is_open();
        let client = self.network.links[link].client;
        let Some((request, executed)) = self.network.execute(link) else { return Ok(()) };
        self.say(|_| {
            let words = request.iter().map(|word| String::from_utf8_lossy(word));
            let words = words.filter(|word| !word.contains("}:") && word.len() < 200);
            let words: Vec<String> = words.map(|word| word.chars().take(32).collect()).collect();
            let late = if is_open { "" } else { " late" };
            let reply = String::from_utf8_lossy(&executed.reply).replace("\r\n", " ");
            format!("  {server} executes{late} of client {client}: {} -> {reply}", words.join(" "))
        });
        self.observe(server, &request, &executed)
    }

    pub(super) async fn advance(&mut self, time: Duration) -> Verdict {
        let tick = if time < TICK * 20 { TICK } else { TICK * 2 };
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(tick);
            left -= step;
            tokio::time::advance(step).await;
            self.network.elapsed = self.clock.now().since(self.began);
            let elapsed = self.network.elapsed;
            self.network.servers.iter_mut().for_each(|server| server.set_time(elapsed));
            self.settle().await?;
        }
        Ok(())
    }

    fn step_clock(&mut self, which: u32, by: i64) {
        let count = self.network.servers.len();
        let server = &mut self.network.servers[which as usize % count];
        server.offset += by;
        let elapsed = self.network.elapsed;
        server.set_time(elapsed);
        if by > 0 {
            let open = |c: &&mut Contender<S::Driver>| c.stage != Stage::Done;
            self.contenders.iter_mut().filter(open).for_each(|c| c.doubtful = true);
            self.foreign.iter_mut().for_each(|foreign| foreign.doubtful = true);
        }
    }

    fn foreign_acquire(&mut self, lease: Duration) {
        let name = LockName::parse("walk").expect("it is short");
        let Ok(key) = self.clients[0].driver.resolve(name, Mode::Exclusive) else { return };
        let value = format!("{:032x}", self.step);
        let ms = lease.as_millis().to_string();
        let server = &mut self.network.servers[0];
        let reply = server.ask(&["SET", &key.to_string(), &value, "NX", "PX", &ms]);
        server.look();
        if reply.text() == "OK" {
            let deadline = self.clock.now().after(lease);
            self.foreign = Some(Foreign { value, deadline, doubtful: false });
        }
        self.note_who_is_blocked();
    }

    pub(super) fn foreign_release(&mut self) {
        let Some(foreign) = self.foreign.take() else { return };
        let name = LockName::parse("walk").expect("it is short");
        let Ok(key) = self.clients[0].driver.resolve(name, Mode::Exclusive) else { return };
        let script = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end";
        let server = &mut self.network.servers[0];
        server.ask(&["EVAL", script, "1", &key.to_string(), &foreign.value]);
        server.look();
    }

    async fn kill(&mut self, which: u32, is_noticed: bool) {
        let client = which as usize % self.clients.len();
        for contender in self.contenders.iter_mut().filter(|c| c.client == client) {
            contender.abort();
            if !matches!(contender.stage, Stage::Done | Stage::Abandoned) {
                contender.stage = Stage::Dead;
            }
            // The number goes to its successor.
            contender.client = usize::MAX;
        }
        self.clients[client].extending.drain(..).for_each(|(_, task)| task.abort());
        self.network.cut_off(client, is_noticed);
        self.start_client(Some(client)).await;
    }
}

/// One of several, by a number.
pub(super) fn pick(number: u32, from: Vec<usize>) -> Option<usize> {
    from.get((number as usize).checked_rem(from.len())?).copied()
}
