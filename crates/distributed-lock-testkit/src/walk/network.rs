//! What is between clients and servers: links whose requests and replies go on when the walk says so.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::resp::{self, Value};
use super::server::{Executed, Server};

/// A request that is on its way longer than this is lost: its attempt's tombstone may be gone then.
pub(super) const LOST_AFTER: Duration = Duration::from_secs(20);

/// All links of all clients, to all servers.
#[derive(Debug)]
pub(super) struct Network<'a> {
    pub(super) servers: &'a mut Vec<Server>,
    pub(super) links: Vec<Link>,
    doors: Vec<Door>,
    opened: usize,
    directory: tempfile::TempDir,
    /// Clients whose requests are served at once.
    pub(super) served: Option<usize>,
    /// Since the beginning of the episode.
    pub(super) elapsed: Duration,
    pub(super) executed: usize,
}

/// Where a client reaches a server.
#[derive(Debug)]
struct Door {
    listener: UnixListener,
    client: usize,
    server: usize,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) client: usize,
    pub(super) server: usize,
    /// The client's end; `None` once it was closed by either side.
    stream: Option<UnixStream>,
    unread: Vec<u8>,
    /// What the server has not seen yet, and when it was sent.
    requests: VecDeque<(Duration, Vec<Vec<u8>>)>,
    /// What the client has not seen yet.
    replies: VecDeque<Vec<u8>>,
    /// Channels that the server serves it on.
    channels: Vec<Vec<u8>>,
    /// The server takes it for open although the client has closed it.
    is_half_open: bool,
}

impl Link {
    pub(super) fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    pub(super) fn has_request(&self) -> bool {
        !self.requests.is_empty()
    }

    pub(super) fn has_reply(&self) -> bool {
        self.is_open() && !self.replies.is_empty()
    }

    fn is_over(&self) -> bool {
        !self.is_open() && self.requests.is_empty() && !self.is_half_open
    }
}

impl<'a> Network<'a> {
    pub(super) fn new(servers: &'a mut Vec<Server>) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self {
            servers,
            links: Vec::new(),
            doors: Vec::new(),
            opened: 0,
            directory,
            served: None,
            elapsed: Duration::ZERO,
            executed: 0,
        }
    }

    /// The URL of a server for a client.
    pub(super) fn open_door(&mut self, client: usize, server: usize) -> String {
        let path: PathBuf = self.directory.path().join(self.opened.to_string());
        self.opened += 1;
        let listener = UnixListener::bind(&path).expect("a socket");
        listener.set_nonblocking(true).expect("it is ours");
        self.doors.push(Door { listener, client, server });
        format!("unix://{}", path.display())
    }

    /// Closes everything that a client has; what is on its way stays there.
    pub(super) fn cut_off(&mut self, client: usize, is_noticed: bool) {
        self.doors.retain(|door| door.client != client);
        for index in 0..self.links.len() {
            if self.links[index].client == client {
                self.close(index);
                self.links[index].is_half_open |= !is_noticed;
            }
        }
    }

    /// Takes new links and what was written; `true` if there was any.
    pub(super) fn pump(&mut self) -> bool {
        let is_heard = self.has_news();
        let mut active = false;
        for door in self.doors.iter().filter(|_| is_heard) {
            while let Ok((stream, _)) = door.listener.accept() {
                stream.set_nonblocking(true).expect("it is ours");
                active = true;
                self.links.push(Link {
                    client: door.client,
                    server: door.server,
                    stream: Some(stream),
                    unread: Vec::new(),
                    requests: VecDeque::new(),
                    replies: VecDeque::new(),
                    channels: Vec::new(),
                    is_half_open: false,
                });
            }
        }
        for index in 0..self.links.len() {
            active |= is_heard && self.read(index);
            while self.is_served_at_once(index) {
                active = true;
                self.execute(index);
                self.deliver_all(index);
            }
        }
        let over: Vec<usize> =
            (0..self.links.len()).rev().filter(|index| self.links[*index].is_over()).collect();
        for index in over {
            self.forget_channels(index);
            self.links.remove(index);
        }
        active
    }

    /// Whether any client has connected, written or closed; in one question to the kernel.
    fn has_news(&self) -> bool {
        let streams = self.links.iter().filter_map(|link| link.stream.as_ref());
        let streams = streams.map(|stream| PollFd::new(stream, PollFlags::IN));
        let doors = self.doors.iter().map(|door| PollFd::new(&door.listener, PollFlags::IN));
        let mut all: Vec<PollFd<'_>> = doors.chain(streams).collect();
        poll(&mut all, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    fn read(&mut self, index: usize) -> bool {
        let link = &mut self.links[index];
        let Some(stream) = &mut link.stream else { return false };
        let (mut active, mut buffer) = (false, [0; 16_384]);
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => {
                    link.stream = None;
                    active = true;
                    break;
                }
                Ok(count) => link.unread.extend(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    link.stream = None;
                    break;
                }
            }
        }
        let mut used = 0;
        while let Some((request, length)) = resp::parse_request(&link.unread[used..]) {
            used += length;
            active = true;
            let arguments = request.list().into_iter().map(|argument| match argument {
                Value::Text(bytes) => bytes,
                _ => Vec::new(),
            });
            link.requests.push_back((self.elapsed, arguments.collect()));
        }
        link.unread.drain(..used);
        active
    }

    /// Shaking hands is no part of the walk.
    fn is_served_at_once(&self, index: usize) -> bool {
        let link = &self.links[index];
        let Some((_, request)) = link.requests.front() else { return false };
        let greets = |verb: &str| request[0].eq_ignore_ascii_case(verb.as_bytes());
        self.served == Some(link.client) || greets("HELLO") || greets("CLIENT")
    }

    /// Lets the server execute the next request of a link.
    pub(super) fn execute(&mut self, index: usize) -> Option<(Vec<Vec<u8>>, Executed)> {
        let link = &mut self.links[index];
        let (sent, request) = link.requests.pop_front()?;
        if self.elapsed.saturating_sub(sent) > LOST_AFTER {
            // With it all that was sent after it.
            link.requests.clear();
            self.close(index);
            return None;
        }
        self.executed += 1;
        let server = &mut self.servers[link.server];
        if request[0].eq_ignore_ascii_case(b"SUBSCRIBE") {
            for channel in &request[1..] {
                server.listen(channel);
                link.channels.push(channel.clone());
                let mut answer = resp::push(&[&b"subscribe"[..], &channel[..]]);
                // The number of subscriptions is the third of its parts.
                answer[1] = b'3';
                answer.extend(b":1\r\n");
                link.replies.push_back(answer);
            }
            return None;
        }
        let executed = server.execute(&request);
        link.replies.push_back(executed.reply.clone());
        let at = link.server;
        for (channel, text) in &executed.messages {
            for link in &mut self.links {
                if link.server == at && link.channels.contains(channel) {
                    link.replies.push_back(resp::push(&[&b"message"[..], &channel[..], &text[..]]));
                }
            }
        }
        Some((request, executed))
    }

    /// Lets the client see the next reply or message of a link.
    pub(super) fn deliver(&mut self, index: usize) {
        let link = &mut self.links[index];
        if let (Some(stream), Some(reply)) = (&mut link.stream, link.replies.pop_front())
            && stream.write_all(&reply).is_err()
        {
            link.stream = None;
        }
    }

    pub(super) fn deliver_all(&mut self, index: usize) {
        while self.links[index].has_reply() {
            self.deliver(index);
        }
    }

    /// Loses the first message that a link has for its client.
    pub(super) fn lose_message(&mut self, index: usize) {
        let replies = &mut self.links[index].replies;
        if let Some(message) = replies.iter().position(|reply| {
            let is_message = |part: &Value| *part == Value::Text(b"message".to_vec());
            resp::parse(reply)
                .is_some_and(|(value, _)| value.list().first().is_some_and(is_message))
        }) {
            replies.remove(message);
        }
    }

    /// Ends a link for its client. What it has sent may still come to the server.
    pub(super) fn close(&mut self, index: usize) {
        let link = &mut self.links[index];
        link.stream = None;
        link.replies.clear();
    }

    /// The server does not notice that a link is closed.
    pub(super) fn keep_half_open(&mut self, index: usize) {
        self.links[index].is_half_open = true;
    }

    /// The server notices what it did not.
    pub(super) fn notice_all(&mut self) {
        self.links.iter_mut().for_each(|link| link.is_half_open = false);
    }

    /// Nothing that is on its way on a closed link comes any more.
    pub(super) fn lose_requests(&mut self, index: usize) {
        self.links[index].requests.clear();
    }

    /// The server finds that a link is closed.
    pub(super) fn forget_channels(&mut self, index: usize) {
        let link = &mut self.links[index];
        for channel in std::mem::take(&mut link.channels) {
            self.servers[link.server].unlisten(&channel);
        }
    }

    /// The links for which something is so, in order.
    pub(super) fn links_where(&self, is_so: impl Fn(&Link) -> bool) -> Vec<usize> {
        (0..self.links.len()).filter(|index| is_so(&self.links[*index])).collect()
    }
}
