//! The restart guard: clients that introduce themselves to servers, tell them of each other, and
//! ask for a lock whom they count, while one server loses its data.

use std::collections::BTreeMap;
use std::time::Duration;

use distributed_lock_redis::redlock::guard::{Group, Introduction, Standing};
use distributed_lock_redis::redlock::servers::{Quorum, ServerId, ServerSet};
use stateright::{Model, Property};

use crate::client::at;
use crate::guard_variant::{GuardStart, GuardVariant};

const CLIENTS: u8 = 2;
const SERVERS: u8 = 3;
/// Of a lease, and of the guard.
const STEPS: u8 = 1;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Guarded {
    pub(crate) variant: GuardVariant,
    pub(crate) start: GuardStart,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    now: u8,
    servers: Vec<Server>,
    clients: Vec<Client>,
    grants: u8,
}

/// Its run, whom it knows since when, until when somebody has its vote.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Server {
    number: u8,
    run: u8,
    knows: BTreeMap<String, Option<u8>>,
    held: Option<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Client {
    group: Group,
    linked: ServerSet,
    until: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Introduce(u8, ServerId),
    Tell(u8, ServerId),
    Ask(u8),
    /// Of the first server: they are all alike.
    Restart,
    TimePasses,
}

impl State {
    fn holders(&self) -> usize {
        let holds = |client: &&Client| client.until.is_some_and(|until| self.now < until);
        self.clients.iter().filter(holds).count()
    }
}

impl Server {
    fn run_id(&self) -> String {
        format!("{}.{}", self.number, self.run)
    }

    fn knows(&self, now: u8) -> BTreeMap<String, Duration> {
        let known_for = |since: &Option<u8>| match since {
            None => Duration::MAX,
            Some(since) => at(now).since(at(*since)),
        };
        self.knows.iter().map(|(id, since)| (id.clone(), known_for(since))).collect()
    }

    fn hear(&mut self, now: u8, old: Vec<String>, new: Vec<String>) {
        self.knows.extend(old.into_iter().map(|id| (id, None)));
        for id in new {
            self.knows.entry(id).or_insert(Some(now));
        }
    }
}

impl Client {
    fn has_news_for(&self, now: u8, server: ServerId) -> bool {
        let now = at(now);
        !self.group.to_be_told(now, server).is_empty()
            || !self.group.to_be_noted(now, server).is_empty()
    }

    /// It tells whom it can reach before it asks anybody.
    fn may_ask(&self, now: u8, votes: [ServerId; 2]) -> bool {
        let counts = |server: &ServerId| {
            self.linked.contains(*server)
                && self.group.standing(at(now), *server) == Standing::Counts
        };
        self.until.is_none()
            && votes.iter().all(counts)
            && !self.linked.iter().any(|linked| self.has_news_for(now, linked))
    }
}

/// Whom a client asks: the smallest majorities, which share the server that restarts and no other.
fn votes(client: u8) -> [ServerId; 2] {
    [ServerId(0), ServerId(1 + client)]
}

impl Guarded {
    fn guard(self) -> Duration {
        match self.variant {
            GuardVariant::NoGuard => Duration::ZERO,
            _ => at(STEPS).since(at(0)),
        }
    }

    fn tell(self, state: &mut State, client: u8, server: ServerId) {
        let (now, at) = (state.now, at(state.now));
        let group = &mut state.clients[usize::from(client)].group;
        let (old, new) = (group.to_be_told(at, server), group.to_be_noted(at, server));
        let told = &mut state.servers[usize::from(server.0)];
        // A wrong client takes its word for the server's.
        let mut believed = told.clone();
        believed.hear(now, old, new);
        group.on_told(at, server, &believed.run_id(), believed.knows(now));
        if self.variant != GuardVariant::TellingNotAwaited {
            *told = believed;
        }
    }

    fn ask(state: &mut State, client: u8) {
        let ends = state.now + STEPS;
        let votes = votes(client).map(|server| usize::from(server.0));
        if votes.iter().all(|server| state.servers[*server].held.is_none()) {
            votes.iter().for_each(|server| state.servers[*server].held = Some(ends));
            state.clients[usize::from(client)].until = Some(ends);
            state.grants += 1;
        }
    }
}

impl Model for Guarded {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut servers: Vec<_> =
            (0..SERVERS).map(|number| Server { number, ..Server::default() }).collect();
        if self.start == GuardStart::Known {
            let all: Vec<_> = servers.iter().map(Server::run_id).collect();
            servers.iter_mut().for_each(|server| server.hear(0, all.clone(), Vec::new()));
        }
        let group = Group::new(Quorum::of(SERVERS), self.guard());
        let client = Client { group, linked: ServerSet::NONE, until: None };
        let clients = vec![client; usize::from(CLIENTS)];
        vec![State { now: 0, servers, clients, grants: 0 }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (number, client) in (0..CLIENTS).zip(&state.clients) {
            // The clients are alike: the first begins.
            if number > 0 && state.clients[0].linked.is_empty() && state.now == 0 {
                continue;
            }
            // It tells when it has heard of all of them.
            let is_complete = client.linked == Quorum::of(SERVERS).all();
            for server in Quorum::of(SERVERS).all().iter() {
                if !client.linked.contains(server) {
                    actions.push(Action::Introduce(number, server));
                } else if is_complete && client.has_news_for(state.now, server) {
                    actions.push(Action::Tell(number, server));
                }
            }
            if client.may_ask(state.now, votes(number)) {
                actions.push(Action::Ask(number));
            }
        }
        // Before anybody holds anything there is nothing to lose.
        let is_held = state.grants > 0;
        if state.servers[0].run == 0 && is_held {
            actions.push(Action::Restart);
        }
        if state.now < self.start.ends() && state.servers[0].run > 0 {
            actions.push(Action::TimePasses);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Introduce(client, server) => {
                let client = &mut state.clients[usize::from(client)];
                let said = &state.servers[usize::from(server.0)];
                let introduction =
                    Introduction { run_id: said.run_id(), knows: said.knows(state.now) };
                client.linked.insert(server);
                client.group.on_introduction(at(state.now), server, introduction);
            }
            Action::Tell(client, server) => self.tell(&mut state, client, server),
            Action::Ask(client) => Self::ask(&mut state, client),
            Action::Restart => {
                state.servers[0] = Server { run: 1, ..Server::default() };
                state.clients.iter_mut().for_each(|client| client.linked.remove(ServerId(0)));
            }
            Action::TimePasses => {
                state.now += 1;
                for server in &mut state.servers {
                    server.held = server.held.filter(|ends| *ends > state.now);
                }
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one holder at most", |_, state: &State| state.holders() <= 1),
            // Else the one above would say nothing.
            Property::sometimes("two in turn", |model: &Self, state: &State| {
                let in_turn = if model.start == GuardStart::New { 1 } else { 2 };
                state.grants >= in_turn && state.servers[0].run > 0
            }),
        ]
    }
}
