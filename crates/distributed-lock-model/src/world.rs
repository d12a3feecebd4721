//! Clients, servers and what is on its way between them.

use std::collections::BTreeSet;

use distributed_lock_redis::redlock::servers::ServerId;
use stateright::{Model, Property};

use crate::client::{Client, Requests};
use crate::server::{Attempt, Question, Reply, Server};
use crate::variant::{Bounds, Start, Variant};

const CLIENTS: u8 = 2;

#[derive(Debug, Clone, Copy)]
pub(crate) struct World {
    pub(crate) variant: Variant,
    pub(crate) bounds: Bounds,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    now: u8,
    clients: Vec<Client>,
    servers: Vec<Server>,
    /// Requests on their way, which may overtake each other.
    requests: BTreeSet<Request>,
    losses: u8,
    restarts: u8,
    jumps: u8,
    /// Who was granted the lock, in turn, and which token they have drawn.
    grants: Vec<(u8, Option<u64>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Request {
    from: Attempt,
    to: u8,
    question: Question,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Begin(u8),
    Extend(u8),
    Draw(u8),
    /// A release, or a future that is dropped.
    End(u8),
    Arrive(Request),
    ArriveButLoseReply(Request),
    Restart(u8),
    Jump(u8),
    TimePasses,
}

impl State {
    fn send(&mut self, client: u8, requests: Requests) {
        let from = Attempt { client, round: self.clients[usize::from(client)].round };
        for (server, question) in requests {
            self.requests.insert(Request { from, to: server.0, question });
        }
    }

    fn holders(&self) -> usize {
        self.clients.iter().filter(|client| client.holds(self.now)).count()
    }

    /// The tokens, in the order of the holds.
    fn drawn(&self) -> impl Iterator<Item = u64> {
        self.grants.iter().filter_map(|(_, token)| *token)
    }

    fn tokens_grow(&self) -> bool {
        self.drawn().is_sorted_by(|one, next| one < next)
    }

    /// A client that is done, with nothing of its on its way, has nothing at any server.
    fn is_clean(&self) -> bool {
        (0..CLIENTS).all(|client| {
            !self.clients[usize::from(client)].is_idle()
                || self.requests.iter().any(|request| request.from.client == client)
                || !self.servers.iter().any(|server| server.is_held_by(client))
        })
    }
}

impl World {
    fn arrive(&self, state: &mut State, request: Request, is_heard: bool) {
        let Request { from, to, question } = request;
        let (now, server) = (state.now, &mut state.servers[usize::from(to)]);
        state.requests.remove(&request);
        let is_new = self.variant != Variant::RestartCounted && server.new_until > now;
        // Who is new is not asked for anything but to undo.
        let reply = match is_new && question != Question::Undo {
            true => Reply::Nothing,
            false => server.on(self.variant, (now, self.bounds.expiry), from, question),
        };
        let client = &mut state.clients[usize::from(from.client)];
        if is_heard && from.round == client.round {
            let heard = (ServerId(to), question, reply);
            let held = client.holds(now);
            let requests = client.on_reply(self.variant, &self.bounds, now, heard);
            if !held && client.holds(now) {
                state.grants.push((from.client, None));
            }
            if let Some(token) = client.token() {
                let last = state.grants.iter_mut().rfind(|(client, _)| *client == from.client);
                last.into_iter().for_each(|(_, drawn)| *drawn = Some(token));
            }
            state.send(from.client, requests);
        }
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        // The clock of the first is ahead, so that its counter is.
        let server = |number| Server::new(if number == 0 { self.bounds.ahead } else { 0 });
        let mut state = State {
            now: 0,
            clients: (0..CLIENTS).map(|_| Client::new(&self.bounds)).collect(),
            servers: (0..self.bounds.servers).map(server).collect(),
            requests: BTreeSet::new(),
            losses: self.bounds.losses,
            restarts: self.bounds.restarts,
            jumps: self.bounds.jumps,
            grants: Vec::new(),
        };
        if self.bounds.start == Start::Held {
            let requests = state.clients[0].begin(self.variant, &self.bounds, 0);
            state.send(0, requests);
            let majority = self.bounds.servers / 2 + 1;
            for request in state.requests.clone() {
                match request.to < majority {
                    true => self.arrive(&mut state, request, true),
                    false => drop(state.requests.remove(&request)),
                }
            }
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (number, client) in (0..CLIENTS).zip(&state.clients) {
            // The clients are alike: the first begins.
            let is_first = number == 0 || state.clients[0].round > 0;
            if is_first && client.may_begin(&self.bounds) {
                actions.push(Action::Begin(number));
            }
            if number == 0 && client.may_extend(state.now) {
                actions.push(Action::Extend(number));
            }
            if client.may_draw(&self.bounds, state.now) {
                actions.push(Action::Draw(number));
            }
            if client.may_end(&self.bounds) {
                actions.push(Action::End(number));
            }
        }
        for request in &state.requests {
            actions.push(Action::Arrive(*request));
            // A lost request is one that never arrives; to undo is tried until it is confirmed.
            if state.losses > 0 && request.question != Question::Undo {
                actions.push(Action::ArriveButLoseReply(*request));
            }
        }
        if state.restarts > 0 {
            actions.extend((0..self.bounds.servers).map(Action::Restart));
        }
        if state.jumps > 0 {
            actions.extend((0..self.bounds.servers).map(Action::Jump));
        }
        if state.now < self.bounds.ends {
            actions.push(Action::TimePasses);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let (variant, bounds, now) = (self.variant, &self.bounds, state.now);
        match action {
            Action::Begin(client) => {
                let requests = state.clients[usize::from(client)].begin(variant, bounds, now);
                state.send(client, requests);
            }
            Action::Extend(client) => {
                let requests = state.clients[usize::from(client)].extend(variant, bounds, now);
                state.send(client, requests);
            }
            Action::Draw(client) => {
                let requests = state.clients[usize::from(client)].draw(bounds);
                state.send(client, requests);
            }
            Action::End(client) => {
                let requests = state.clients[usize::from(client)].end(variant, bounds, now);
                state.send(client, requests);
            }
            Action::Arrive(request) => self.arrive(&mut state, request, true),
            Action::ArriveButLoseReply(request) => {
                state.losses -= 1;
                self.arrive(&mut state, request, false);
            }
            Action::Restart(server) => {
                state.restarts -= 1;
                state.servers[usize::from(server)].restart(now, bounds.expiry);
                // Its connections are gone, and what was on its way on them.
                state.requests.retain(|request| request.to != server);
            }
            Action::Jump(server) => {
                state.jumps -= 1;
                state.servers[usize::from(server)].jump(bounds.expiry);
            }
            Action::TimePasses => {
                state.now += 1;
                let now = state.now;
                state.servers.iter_mut().for_each(|server| server.on_time(now));
                for client in 0..CLIENTS {
                    let requests = state.clients[usize::from(client)].on_time(variant, bounds, now);
                    state.send(client, requests);
                }
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let grow = Property::always("tokens grow", |_, state: &State| state.tokens_grow());
        let single =
            Property::always("one holder at most", |_, state: &State| state.holders() <= 1);
        let clean = Property::always("nothing is left behind", |_, state: &State| state.is_clean());
        // Else those above would say nothing.
        let in_turn = match self.bounds.draws {
            0 => Property::sometimes("two in turn", |_, state: &State| state.grants.len() > 1),
            _ => Property::sometimes("two in turn", |_, state: &State| state.drawn().count() > 1),
        };
        // No lease stands a clock that jumps; tokens do.
        let is_forgiven = self.bounds.jumps > 0 && self.variant == Variant::Right;
        match is_forgiven {
            true => vec![grow, clean, in_turn],
            false => vec![single, grow, clean, in_turn],
        }
    }
}
