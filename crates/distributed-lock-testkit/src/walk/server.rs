//! A real server under a simulated clock, which executes one request after the other.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::mutant::Mutant;
use super::resp::{self, Value};
use super::state::State;
use crate::servers::{ClockShift, RedisServer};

const INSPECT: &str = include_str!("inspect.lua");

/// When every episode begins, since 1970.
const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// The server, reached by one connection that subscribes to the channels of all links.
#[derive(Debug)]
pub(super) struct Server {
    redis: RedisServer,
    clock: ClockShift,
    control: UnixStream,
    unread: Vec<u8>,
    inspect: String,
    /// How far its clock is off, in ms.
    pub(super) offset: i64,
    /// How many links listen to each channel.
    channels: HashMap<Vec<u8>, usize>,
    /// The texts of the scripts that it has been sent, by their hashes.
    scripts: HashMap<String, Script>,
    mutant: Option<&'static Mutant>,
    state: State,
}

#[derive(Debug)]
struct Script {
    text: String,
    /// The hash of what runs instead.
    mutated: Option<String>,
}

/// What became of a request.
#[derive(Debug)]
pub(super) struct Executed {
    pub(super) reply: Vec<u8>,
    /// Messages that it has caused: channel and text.
    pub(super) messages: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) before: State,
    pub(super) after: State,
}

impl Server {
    pub(super) fn start() -> Self {
        let clock = ClockShift::new();
        let redis = RedisServer::builder().envs(clock.env()).arg("--unixsocket").arg("socket");
        let redis = redis.start();
        let control = UnixStream::connect(redis.directory().join("socket")).expect("its socket");
        let mut server = Self {
            redis,
            clock,
            control,
            unread: Vec::new(),
            inspect: String::new(),
            offset: 0,
            channels: HashMap::new(),
            scripts: HashMap::new(),
            mutant: None,
            state: State::default(),
        };
        server.ask(&["HELLO", "3"]);
        server.inspect = server.load(INSPECT);
        server
    }

    /// Forgets everything but its scripts, for the next episode.
    pub(super) fn clear(&mut self, mutant: Option<&'static Mutant>) {
        self.offset = 0;
        self.state = State::default();
        self.set_time(Duration::ZERO);
        self.ask(&["FLUSHALL"]);
        self.message_after(&[b"UNSUBSCRIBE"]);
        self.set_memory_full(false);
        self.channels.clear();
        self.mutant = mutant;
        let texts: Vec<String> = self.scripts.drain().map(|(_, script)| script.text).collect();
        texts.into_iter().for_each(|text| self.learn(text));
    }

    /// Every script that it was sent so far.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.scripts.values().map(|script| script.text.as_str())
    }

    /// Sets its clock to so long after the beginning of the episode.
    pub(super) fn set_time(&mut self, elapsed: Duration) {
        let offset = Duration::from_millis(self.offset.unsigned_abs());
        let right = EPOCH + elapsed;
        let at = if self.offset < 0 { right - offset } else { right + offset };
        self.clock.stand_at(at);
        self.state.now = i64::try_from(at.as_millis()).unwrap_or(0);
    }

    /// Its time in ms.
    pub(super) fn now(&self) -> i64 {
        self.state.now
    }

    /// What it had after its last request.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Reads again what it has.
    pub(super) fn look(&mut self) -> &State {
        let request = resp::command(&["EVALSHA", &self.inspect, "0"]);
        let (replies, _) = self.exchange(&request, 1);
        let reply = replies.into_iter().next().map_or(Value::Nil, |(value, _)| value);
        self.state = State::read(reply, self.state.now);
        &self.state
    }

    /// Makes it refuse what needs memory.
    pub(super) fn set_memory_full(&mut self, full: bool) {
        self.ask(&["CONFIG", "SET", "maxmemory", if full { "1" } else { "0" }]);
    }

    /// Executes a request of a client.
    pub(super) fn execute(&mut self, arguments: &[Vec<u8>]) -> Executed {
        let mut arguments = arguments.to_vec();
        self.mutate(&mut arguments);
        let mut request = resp::command(&arguments);
        request.extend(resp::command(&["EVALSHA", &self.inspect, "0"]));
        let (mut replies, messages) = self.exchange(&request, 2);
        let state = replies.pop().map_or(Value::Nil, |(value, _)| value);
        let (_, reply) = replies.pop().unwrap_or((Value::Nil, Vec::new()));
        if arguments[0].eq_ignore_ascii_case(b"EVAL") {
            self.learn(String::from_utf8_lossy(&arguments[1]).into_owned());
        }
        let after = State::read(state, self.state.now);
        let before = std::mem::replace(&mut self.state, after.clone());
        Executed { reply, messages, before, after }
    }

    /// A link listens to a channel.
    pub(super) fn listen(&mut self, channel: &[u8]) {
        let links = self.channels.entry(channel.to_vec()).or_default();
        *links += 1;
        if *links == 1 {
            self.message_after(&[b"SUBSCRIBE", channel]);
        }
    }

    /// A link that has listened has ended.
    pub(super) fn unlisten(&mut self, channel: &[u8]) {
        let Some(links) = self.channels.get_mut(channel) else { return };
        *links -= 1;
        if *links == 0 {
            self.channels.remove(channel);
            self.message_after(&[b"UNSUBSCRIBE", channel]);
        }
    }

    pub(super) fn has_listener(&self, channel: &str) -> bool {
        self.channels.contains_key(channel.as_bytes())
    }

    /// Runs a command of somebody else.
    pub(super) fn ask(&mut self, arguments: &[&str]) -> Value {
        let (mut replies, _) = self.exchange(&resp::command(arguments), 1);
        replies.pop().map_or(Value::Nil, |(value, _)| value)
    }

    fn load(&mut self, text: &str) -> String {
        self.ask(&["SCRIPT", "LOAD", text]).text()
    }

    fn learn(&mut self, text: String) {
        let hash = self.load(&text);
        let changed = self.mutant.and_then(|mutant| mutant.script(&text));
        let mutated = changed.map(|changed| self.load(&changed));
        self.scripts.insert(hash, Script { text, mutated });
    }

    fn mutate(&self, arguments: &mut [Vec<u8>]) {
        let script = arguments.get(1).map(|hash| String::from_utf8_lossy(hash).into_owned());
        let script = script.and_then(|hash| self.scripts.get(&hash));
        if let Some(mutated) = script.and_then(|script| script.mutated.as_ref()) {
            arguments[1] = mutated.clone().into_bytes();
        }
    }

    /// A command that is answered by messages only.
    fn message_after(&mut self, command: &[&[u8]]) {
        let mut request = resp::command(command);
        request.extend(resp::command(&["PING"]));
        self.exchange(&request, 1);
    }

    /// Sends requests and reads so many replies, with the messages before the last of them.
    #[expect(clippy::type_complexity, reason = "in one place")]
    fn exchange(
        &mut self,
        requests: &[u8],
        replies: usize,
    ) -> (Vec<(Value, Vec<u8>)>, Vec<(Vec<u8>, Vec<u8>)>) {
        self.control.write_all(requests).expect("the server runs");
        let (mut answers, mut messages) = (Vec::new(), Vec::new());
        let mut used = 0;
        while answers.len() < replies {
            let Some((value, length)) = resp::parse(&self.unread[used..]) else {
                let mut buffer = [0; 16_384];
                let count = self.control.read(&mut buffer).expect("the server runs");
                assert!(count > 0, "the server has ended: {}", self.redis.log());
                self.unread.extend(&buffer[..count]);
                continue;
            };
            let bytes = self.unread[used..used + length].to_vec();
            used += length;
            match value {
                Value::Push(parts) => {
                    if let [Value::Text(kind), Value::Text(channel), Value::Text(text)] = &parts[..]
                        && kind == b"message"
                    {
                        messages.push((channel.clone(), text.clone()));
                    }
                }
                value => answers.push((value, bytes)),
            }
        }
        self.unread.drain(..used);
        (answers, messages)
    }
}
