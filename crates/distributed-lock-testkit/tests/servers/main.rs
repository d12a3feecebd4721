//! Private servers do what tests rely on: they answer, die, come back with their data, and leave
//! nothing behind.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "it is a test")]

mod clock_shift;
mod endings;
mod pgbouncer;
mod postgres;
mod redis;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// For how long it is watched that nobody answers.
const WATCHED_FOR: Duration = Duration::from_millis(300);

/// How soon somebody who goes on answers.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// The number of the user that a process runs as.
fn user_of(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
    line.split_whitespace().nth(1).unwrap().to_owned()
}

/// Begins a session of PostgreSQL: the answer is to ask for the password.
fn start_of_session(port: u16) -> TcpStream {
    let mut session = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    session.write_all(b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0").unwrap();
    session
}

/// What comes within a short time.
fn next_byte(stream: &mut TcpStream) -> Option<u8> {
    stream.set_read_timeout(Some(WATCHED_FOR)).unwrap();
    let mut byte = [0];
    (stream.read(&mut byte).ok()? == 1).then_some(byte[0])
}
