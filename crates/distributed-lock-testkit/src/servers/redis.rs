//! A private Redis.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::Signal;

use super::certificates::Certificates;
use super::daemon::{Daemon, Kind};
use super::home::Home;
use super::port::Port;

/// How long an answer is waited for before the next question.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// A Redis server with a directory and port of its own. It ends when it is dropped.
///
/// Over TCP on the loopback interface, without persistence, unless its arguments say otherwise.
///
/// Every method panics if the server cannot do what it is told.
#[derive(Debug)]
pub struct RedisServer {
    daemon: Daemon,
    password: Option<String>,
    tls: Option<(Port, Certificates)>,
    /// The port for other nodes of its cluster.
    _bus: Option<Port>,
}

impl RedisServer {
    /// Starts one with these further arguments (`--appendonly yes`, `--requirepass ...`) and waits
    /// until it answers.
    ///
    /// # Panics
    /// If it does not, with what it has logged.
    #[must_use]
    pub fn start(args: &[&str]) -> Self {
        args.iter().fold(Self::builder(), |builder, argument| builder.arg(argument)).start()
    }

    /// For environment variables and TLS.
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    /// One for all tests of this process, started by the first that asks for it and ended with the
    /// process. Tests use names of their own and do not break it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<RedisServer> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]))
    }

    /// `redis://127.0.0.1:PORT`, with the password if there is one.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_by(self.port())
    }

    /// The same by another port, that of a proxy.
    #[must_use]
    pub fn url_by(&self, port: u16) -> String {
        let password = self.password.iter().map(|password| format!(":{password}@"));
        format!("redis://{}127.0.0.1:{port}", password.collect::<String>())
    }

    /// `rediss://127.0.0.1:PORT`, on a port of its own, if it was started with TLS.
    #[must_use]
    pub fn tls_url(&self) -> Option<String> {
        let (port, _) = self.tls.as_ref()?;
        Some(self.url_by(port.number()).replacen("redis", "rediss", 1))
    }

    /// The certificate of the authority that has signed the server's, if it was started with TLS;
    /// valid for 127.0.0.1 and `localhost`.
    #[must_use]
    pub fn ca_path(&self) -> Option<&Path> {
        self.tls.as_ref().map(|(_, certificates)| certificates.authority())
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

    /// The server's directory, which goes with it: relative paths in arguments (`--unixsocket
    /// socket`) are in it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.daemon.directory()
    }

    /// What the server has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// Runs a command by `redis-cli` as the default user: its reply, which may be an error's text.
    ///
    /// # Panics
    /// If there is no `redis-cli`.
    #[must_use]
    pub fn cli(&self, command: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        // In a URL it does not understand a password without a user.
        cli.envs(self.password.iter().map(|password| ("REDISCLI_AUTH", password)));
        cli.args(["--no-auth-warning", "-p", &self.port().to_string()]).args(command);
        let output = cli.output().unwrap_or_else(|error| panic!("redis-cli: {error}"));
        let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
        String::from_utf8_lossy(&said).trim_end().to_owned()
    }

    /// Kills it; nothing happens if it does not run.
    pub fn kill(&self) {
        self.daemon.kill();
    }

    /// Shuts it down in good order; nothing happens if it does not run.
    pub fn stop(&self) {
        self.daemon.stop();
    }

    /// Starts it with the same directory, port and arguments, and waits until it answers; one that
    /// runs is stopped before. What it had persisted is there again.
    pub fn restart(&self) {
        self.daemon.restart();
    }

    /// Stops it where it is: the port is open, and nobody answers.
    pub fn pause(&self) {
        self.daemon.pause();
    }

    /// Lets a paused server go on.
    pub fn resume(&self) {
        self.daemon.resume();
    }
}

/// How a [`RedisServer`] is to be started.
#[derive(Debug, Default)]
#[must_use]
pub struct RedisBuilder {
    arguments: Vec<String>,
    environment: Vec<(OsString, OsString)>,
    tls: bool,
}

impl RedisBuilder {
    /// An argument; `--name value` are two.
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// An environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Several environment variables.
    pub fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(
        self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        variables.into_iter().fold(self, |builder, (name, value)| builder.env(name, value))
    }

    /// With a certificate and one more port for TLS; clients need no certificate.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Panics
    /// If it does not, with what it has logged.
    #[must_use]
    pub fn start(self) -> RedisServer {
        let home = Home::create();
        let mut arguments: Vec<String> =
            ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"].map(Into::into).into();
        let tls = self.tls.then(|| (Port::claim(), Certificates::make(home.path())));
        if let Some((port, certificates)) = &tls {
            let path = |path: &Path| path.display().to_string();
            let (port, authority) = (port.number().to_string(), path(certificates.authority()));
            let (certificate, key) = (path(certificates.certificate()), path(certificates.key()));
            let settings = [
                ("--tls-port", port),
                ("--tls-cert-file", certificate),
                ("--tls-key-file", key),
                ("--tls-ca-cert-file", authority),
                ("--tls-auth-clients", "no".to_owned()),
            ];
            arguments.extend(settings.into_iter().flat_map(|(name, value)| [name.into(), value]));
        }
        arguments.extend(self.arguments);
        // By default it is the port for clients and 10,000, which may be another server's.
        let is_node = arguments.iter().any(|argument| argument == "--cluster-enabled");
        let bus = is_node.then(Port::claim);
        if let Some(port) = &bus {
            arguments.extend(["--cluster-port".to_owned(), port.number().to_string()]);
        }
        let password = arguments.iter().position(|argument| argument == "--requirepass");
        let password = password.and_then(|at| arguments.get(at + 1).cloned());
        let environment = self.environment;
        let command = move |home: &Path, port: u16| {
            let mut command = Command::new("redis-server");
            command.args(["--port", &port.to_string(), "--dir"]).arg(home).args(&arguments);
            command.envs(environment.iter().map(|(name, value)| (name, value)));
            command
        };
        let kind = Kind {
            name: "Redis",
            stop: Signal::TERM,
            command: Box::new(command),
            answers: |port| replies(port).unwrap_or(false),
        };
        RedisServer { daemon: Daemon::start(home, kind), password, tls, _bus: bus }
    }
}

/// Whether it replies to a command, be it that it wants a password first.
fn replies(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
    stream.write_all(b"PING\r\n")?;
    let mut reply = [0; 5];
    stream.read_exact(&mut reply)?;
    Ok(reply == *b"+PONG" || reply == *b"-NOAU")
}
