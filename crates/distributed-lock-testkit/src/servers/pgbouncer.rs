//! A private pgbouncer in front of a private PostgreSQL.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use super::account;
use super::daemon::{Daemon, Kind};
use super::home::Home;
use super::postgres::{PASSWORD, PostgresServer, asks_for_a_password, psql, url};

/// Where Debian has the program: not in everybody's search path.
const DEBIAN: &str = "/usr/sbin/pgbouncer";

/// When a server's session goes back to the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    /// When its client disconnects: the client has the session for itself.
    Session,
    /// After each transaction: the next may run in another session.
    Transaction,
}

/// A pgbouncer with a port of its own. It ends when it is dropped.
///
/// Everything is as pgbouncer has it by default, but for what the user says. Passwords are those of
/// the server.
///
/// Every method panics if the program cannot do what it is told.
#[derive(Debug)]
pub struct Pgbouncer {
    daemon: Daemon,
    programs: PathBuf,
}

impl Pgbouncer {
    /// Starts one in front of a server and waits until it answers.
    ///
    /// # Panics
    /// If it does not, with what it has logged.
    #[must_use]
    pub fn start(server: &PostgresServer, mode: PoolMode) -> Self {
        Self::start_with(server, mode, &[])
    }

    /// Starts one with further settings (`pgbouncer.ini`'s, such as `default_pool_size`).
    ///
    /// # Panics
    /// If it does not answer, with what it has logged.
    #[must_use]
    pub fn start_with(server: &PostgresServer, mode: PoolMode, settings: &[(&str, &str)]) -> Self {
        let home = Home::create();
        write(home.path(), "users", &format!("\"postgres\" \"{PASSWORD}\"\n"));
        let mode = match mode {
            PoolMode::Session => "session",
            PoolMode::Transaction => "transaction",
        };
        let further = settings.iter().map(|(name, value)| format!("{name} = {value}\n"));
        let (upstream, further) = (server.port(), further.collect::<String>());
        let command = move |home: &Path, port: u16| {
            let settings = format!(
                "[databases]\n* = host=127.0.0.1 port={upstream}\n[pgbouncer]\n\
                 listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
                 auth_type = scram-sha-256\nauth_file = users\npool_mode = {mode}\n{further}"
            );
            write(home, "settings", &settings);
            let is_debian = Path::new(DEBIAN).exists();
            let mut command = Command::new(if is_debian { DEBIAN } else { "pgbouncer" });
            command.arg("settings");
            command
        };
        let kind = Kind {
            name: "pgbouncer",
            stop: Signal::TERM,
            command: Box::new(command),
            answers: |port| asks_for_a_password(port).unwrap_or(false),
        };
        Self { daemon: Daemon::start(home, kind), programs: server.programs().to_owned() }
    }

    /// `postgres://postgres:PASSWORD@127.0.0.1:PORT/postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        url(self.port())
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port()).into()
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.daemon.port()
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// Runs a statement through it, as [`PostgresServer::psql`] does.
    ///
    /// # Errors
    /// If the statement fails, or pgbouncer or the server does not answer.
    pub fn psql(&self, statement: &str) -> Result<String, String> {
        psql(&self.programs, &self.url(), statement)
    }

    /// Kills it; nothing happens if it does not run.
    pub fn kill(&self) {
        self.daemon.kill();
    }

    /// Starts it with the same port and settings, and waits until it answers; one that runs is
    /// stopped before.
    pub fn restart(&self) {
        self.daemon.restart();
    }

    /// Stops it where it is: the port is open, and nobody answers.
    pub fn pause(&self) {
        self.daemon.pause();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.daemon.resume();
    }
}

/// Writes a file for the user that servers run as.
fn write(directory: &Path, name: &str, content: &str) {
    let path = directory.join(name);
    fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    account::give(&path);
}
