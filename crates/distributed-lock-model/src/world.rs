//! Clients, servers and what is on its way between them.

use std::collections::BTreeMap;

use distributed_lock_redis::redlock::servers::ServerId;
use stateright::{Model, Property};

use crate::client::{Client, Heard, Requests};
use crate::server::{Attempt, Question, Reply, Server};
use crate::variant::{Bounds, Start, Variant};

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
    /// Requests on their way on each link, which keeps their order.
    links: BTreeMap<Link, Vec<Request>>,
    losses: u8,
    leaves: u8,
    restarts: u8,
    jumps: u8,
    /// Who was granted the lock, in turn, and which token they have drawn.
    grants: Vec<(u8, Option<u64>)>,
}

/// A connection of a client to a server, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Link {
    client: u8,
    server: u8,
    number: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Request {
    round: u8,
    question: Question,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Begin(u8),
    Extend(u8),
    Draw(u8),
    /// A release, or a future that is dropped.
    End(u8),
    /// The next request on a link.
    Arrive(Link),
    ArriveButLoseReply(Link),
    /// The link in use is reported closed.
    Leave(u8, u8),
    Restart(u8),
    Jump(u8),
    TimePasses,
}

impl State {
    fn send(&mut self, client: u8, requests: Requests) {
        for leaving in requests {
            let link = Link { client, server: leaving.to.0, number: leaving.link };
            let request = Request { round: leaving.round, question: leaving.question };
            self.links.entry(link).or_default().push(request);
        }
    }

    /// The next request on a link.
    fn take(&mut self, link: Link) -> Option<Request> {
        let on_it = self.links.get_mut(&link)?;
        let request = on_it.remove(0);
        if on_it.is_empty() {
            self.links.remove(&link);
        }
        Some(request)
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
        (0..).zip(&self.clients).all(|(client, its)| {
            !its.is_idle()
                || self.links.keys().any(|link| link.client == client)
                || !self.servers.iter().any(|server| server.is_held_by(client))
        })
    }
}

impl World {
    fn arrive(&self, state: &mut State, link: Link, is_heard: bool) {
        let Some(Request { round, question }) = state.take(link) else { return };
        let (now, server) = (state.now, &mut state.servers[usize::from(link.server)]);
        let is_new = self.variant != Variant::RestartCounted && server.new_until > now;
        let is_undo = matches!(question, Question::Undo { .. });
        let from = Attempt { client: link.client, round };
        // A new server is not asked for anything but to undo.
        let reply = match is_new && !is_undo {
            true => Reply::Nothing,
            false => server.on(self.variant, (now, &self.bounds), from, question),
        };
        let client = &mut state.clients[usize::from(link.client)];
        let server = ServerId(link.server);
        // Nothing is heard on a link that was left.
        if is_heard && client.link(server) == link.number {
            let heard = Heard { round, from: server, link: link.number, question, reply };
            let held = client.holds(now);
            let requests = client.on_reply(self.variant, &self.bounds, now, heard);
            if !held && client.holds(now) {
                state.grants.push((link.client, None));
            }
            if let Some(token) = client.token() {
                let last = state.grants.iter_mut().rfind(|(client, _)| *client == link.client);
                last.into_iter().for_each(|(_, drawn)| *drawn = Some(token));
            }
            state.send(link.client, requests);
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
            clients: (0..self.bounds.clients).map(|_| Client::new(&self.bounds)).collect(),
            servers: (0..self.bounds.servers).map(server).collect(),
            links: BTreeMap::new(),
            losses: self.bounds.losses,
            leaves: self.bounds.leaves,
            restarts: self.bounds.restarts,
            jumps: self.bounds.jumps,
            grants: Vec::new(),
        };
        if self.bounds.start == Start::Held {
            let requests = state.clients[0].begin(self.variant, &self.bounds, 0);
            state.send(0, requests);
            let majority = self.bounds.servers / 2 + 1;
            for link in state.links.clone().into_keys() {
                match link.server < majority {
                    true => self.arrive(&mut state, link, true),
                    false => drop(state.links.remove(&link)),
                }
            }
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (number, client) in (0..self.bounds.clients).zip(&state.clients) {
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
        for (link, requests) in &state.links {
            actions.push(Action::Arrive(*link));
            // A lost request is one that never arrives; to undo is tried until it is confirmed.
            let is_undo = matches!(requests[0].question, Question::Undo { .. });
            if state.losses > 0 && !is_undo {
                actions.push(Action::ArriveButLoseReply(*link));
            }
        }
        if state.leaves > 0 {
            let all = (0..self.bounds.clients).flat_map(|client| {
                (0..self.bounds.servers).map(move |server| Link { client, server, number: 0 })
            });
            // A link that carries nothing may be left without anything to be late.
            let carries = all.filter(|link| state.links.contains_key(link));
            actions.extend(carries.map(|link| Action::Leave(link.client, link.server)));
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
                let requests = state.clients[usize::from(client)].end(variant, bounds);
                state.send(client, requests);
            }
            Action::Arrive(link) => self.arrive(&mut state, link, true),
            Action::ArriveButLoseReply(link) => {
                state.losses -= 1;
                self.arrive(&mut state, link, false);
            }
            Action::Leave(client, server) => {
                state.leaves -= 1;
                let requests = state.clients[usize::from(client)].leave(ServerId(server), now);
                state.send(client, requests);
            }
            Action::Restart(server) => {
                state.restarts -= 1;
                state.servers[usize::from(server)].restart(now, bounds.expiry);
                // Its connections are gone, and what was on its way on them.
                state.links.retain(|link, _| link.server != server);
            }
            Action::Jump(server) => {
                state.jumps -= 1;
                state.servers[usize::from(server)].jump(bounds.expiry);
            }
            Action::TimePasses => {
                state.now += 1;
                let now = state.now;
                state.servers.iter_mut().for_each(|server| server.on_time(now));
                for client in 0..self.bounds.clients {
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
        let is_forgiven =
            self.bounds.are_readers || self.bounds.jumps > 0 && self.variant == Variant::Right;
        match is_forgiven {
            true => vec![grow, clean, in_turn],
            false => vec![single, grow, clean, in_turn],
        }
    }
}
