//! A private PostgreSQL.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal};

use super::certificates::Certificates;
use super::daemon::{Daemon, Kind};
use super::home::Home;
use super::{postgres_template, processes};

/// The password of the superuser `postgres`: nothing else contains these words, so a test can look
/// for it where it must not be.
pub const PASSWORD: &str = "private-server-password";

/// What a test does not need, and what would be left behind; each can be overridden.
const SETTINGS: [(&str, &str); 4] = [
    ("fsync", "off"),
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_directories", ""),
    // In the data directory, where it is found and removed.
    ("dynamic_shared_memory_type", "mmap"),
];

/// How long an answer is waited for before the next question.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// A PostgreSQL server of the newest version installed, with a data directory and port of its own.
/// It ends when it is dropped.
///
/// Over TCP on the loopback interface only; the superuser `postgres` has the password
/// [`PASSWORD`]. `fsync` is off: data survives the server's death, though not the machine's.
///
/// Every method panics if the server cannot do what it is told.
#[derive(Debug)]
pub struct PostgresServer {
    daemon: Daemon,
    programs: PathBuf,
    certificates: Option<Certificates>,
}

impl PostgresServer {
    /// Starts one with these settings (`postgresql.conf`'s) and waits until it answers.
    ///
    /// # Panics
    /// If it does not, with what it has logged.
    #[must_use]
    pub fn start(settings: &[(&str, &str)]) -> Self {
        settings.iter().fold(Self::builder(), |b, (name, value)| b.setting(name, value)).start()
    }

    /// For environment variables, TLS and standby servers.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::default()
    }

    /// One for all tests of this process, started by the first that asks for it and ended with the
    /// process. Tests use names of their own and do not break it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<PostgresServer> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]))
    }

    /// `postgres://postgres:PASSWORD@127.0.0.1:PORT/postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_by(self.port())
    }

    /// The same by another port, that of a proxy.
    #[must_use]
    pub fn url_by(&self, port: u16) -> String {
        url(port)
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

    /// The process number of the postmaster.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// The directory that has the data directory, `data`; it goes with the server.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.daemon.directory()
    }

    /// What the server has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// The certificate of the authority that has signed the server's, if it was started with TLS;
    /// valid for 127.0.0.1 and `localhost`.
    #[must_use]
    pub fn ca_path(&self) -> Option<&Path> {
        self.certificates.as_ref().map(Certificates::authority)
    }

    /// Runs a statement by `psql` as the superuser: its rows, values separated by `|`; or what
    /// `psql` complains about.
    ///
    /// # Errors
    /// If the statement fails or the server does not answer.
    pub fn psql(&self, statement: &str) -> Result<String, String> {
        psql(&self.programs, &self.url(), statement)
    }

    /// Where this version's programs are.
    #[must_use]
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Kills all its processes; nothing happens if it does not run.
    pub fn kill(&self) {
        self.daemon.kill();
    }

    /// Shuts it down in good order ("fast": sessions are ended); nothing happens if it does not run.
    pub fn stop(&self) {
        self.daemon.stop();
    }

    /// Starts it with the same data, port and settings, and waits until it answers; one that runs is
    /// stopped before.
    pub fn restart(&self) {
        self.daemon.restart();
    }

    /// Shuts it down in good order and starts it again as a hot standby of a primary that is never heard
    /// of.
    ///
    /// # Panics
    /// If it does not answer, with what it has logged.
    pub fn restart_as_standby(&self) {
        self.stop();
        let signal = self.directory().join("data/standby.signal");
        std::fs::File::create(&signal).expect("the data directory is there");
        super::account::give(&signal);
        self.restart();
    }

    /// Makes a primary of a standby, and waits until it is one.
    ///
    /// # Panics
    /// If it does not become one.
    pub fn promote(&self) {
        assert_eq!(self.psql("SELECT pg_promote()").as_deref(), Ok("t"));
    }

    /// Stops all its processes where they are: the port is open, and nobody answers.
    pub fn pause(&self) {
        self.daemon.pause();
    }

    /// Lets a paused server go on.
    pub fn resume(&self) {
        self.daemon.resume();
    }

    /// Sends a signal to one of its processes, by the number that `pg_backend_pid()` gives.
    ///
    /// # Panics
    /// If the process is not this server's.
    pub fn signal_backend(&self, pid: i32, signal: Signal) {
        let backend = Pid::from_raw(pid).filter(|pid| self.daemon.processes().contains(pid));
        let backend = backend.unwrap_or_else(|| panic!("{pid} is no process of {self:?}"));
        processes::signal(backend, signal);
    }
}

/// The URL of what listens on a port and has this superuser.
pub(super) fn url(port: u16) -> String {
    format!("postgres://postgres:{PASSWORD}@127.0.0.1:{port}/postgres")
}

/// Runs a statement on what a URL leads to.
pub(super) fn psql(programs: &Path, url: &str, statement: &str) -> Result<String, String> {
    let mut psql = Command::new(programs.join("psql"));
    psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement, url]);
    let output = psql.output().map_err(|error| format!("psql: {error}"))?;
    let said = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().to_owned();
    if output.status.success() { Ok(said(output.stdout)) } else { Err(said(output.stderr)) }
}

/// How a [`PostgresServer`] is to be started.
#[derive(Debug, Default)]
#[must_use]
pub struct PostgresBuilder {
    settings: Vec<(String, String)>,
    environment: Vec<(OsString, OsString)>,
    tls: bool,
    standby: bool,
}

impl PostgresBuilder {
    /// A setting of `postgresql.conf`; of two with the same name the later is in force.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// An environment variable of all its processes.
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

    /// With a certificate; connections without TLS are accepted, too.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// As a hot standby, of a primary that is never heard of: it is in recovery, and answers what
    /// only reads.
    pub fn standby(mut self) -> Self {
        self.standby = true;
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Panics
    /// If it does not, with what it has logged.
    #[must_use]
    pub fn start(self) -> PostgresServer {
        let home = Home::create();
        let programs = postgres_template::programs();
        postgres_template::copy(&programs, home.path());
        if self.standby {
            let made = std::fs::File::create(home.path().join("data/standby.signal"));
            made.expect("the data directory is there");
        }
        let certificates = self.tls.then(|| Certificates::make(home.path()));
        let mut settings: Vec<_> =
            SETTINGS.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if let Some(certificates) = &certificates {
            settings.push("ssl=on".to_owned());
            settings.push(format!("ssl_cert_file={}", certificates.certificate().display()));
            settings.push(format!("ssl_key_file={}", certificates.key().display()));
        }
        settings.extend(self.settings.iter().map(|(name, value)| format!("{name}={value}")));
        let (program, environment) = (programs.join("postgres"), self.environment);
        let command = move |home: &Path, port: u16| {
            let mut command = Command::new(&program);
            command.arg("-D").arg(home.join("data")).args(["-p", &port.to_string()]);
            command.args(settings.iter().flat_map(|setting| ["-c", setting]));
            command.envs(environment.iter().map(|(name, value)| (name, value)));
            command
        };
        let kind = Kind {
            name: "PostgreSQL",
            stop: Signal::INT,
            command: Box::new(command),
            answers: |port| asks_for_a_password(port).unwrap_or(false),
        };
        let daemon = Daemon::start(home, kind);
        PostgresServer { daemon, programs, certificates }
    }
}

/// Whether the answer to a start of a session is to ask for the password: before it accepts
/// sessions, the server answers with an error.
pub(super) fn asks_for_a_password(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
    // Length, protocol 3.0, parameters.
    stream.write_all(b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0")?;
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    Ok(kind == *b"R")
}
