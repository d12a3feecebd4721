//! Which server to connect to, as whom, and how.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::future::{Future, poll_fn};
use std::hash::BuildHasher;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use distributed_lock_core::error::{LockError, LockResult, NoAnswer};
use socket2::TcpKeepalive;
use tokio_postgres::config::{LoadBalanceHosts, SslMode as Encryption, TargetSessionAttrs};
use tokio_postgres::{CancelToken, Client, Config, Connection, SimpleQueryMessage};

use super::contradictions::{self, Encryption as GivenEncryption};
use super::endpoint::{Endpoint, endpoints};
use super::failure::{Failure, NoEncryption, WrongAttributes, source_of};
use super::limit::within;
use super::parameters::Parameters;
use super::stream::{Address, Stream};
use super::tls::{SslMode, Tls, TlsStream};
use super::unclosed::{ConnectUnclosed, Unclosed};

/// What must be driven for a [`Client`] to get answers; on any runtime.
pub(crate) type Wire = Connection<Stream, TlsStream>;

const APPLICATION_NAME: &str = "distributed-lock";

/// How a dead link is noticed while nothing is sent: 5 s + 3 × 2 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_RETRIES: u32 = 3;
/// How a dead link is noticed when something was sent.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one of several hosts may be silent before the next is tried.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a connection string says, checked. Its clones share what they have learnt about the hosts.
#[derive(Clone)]
pub(crate) struct Target {
    config: Config,
    tls: Tls,
    hosts: Arc<[Endpoint]>,
    /// The connection string has an `application_name`.
    is_named: bool,
    /// The host to begin with: the last that answered, or else the one after the last that was tried.
    first: Arc<AtomicUsize>,
    warned: Arc<AtomicBool>,
}

impl Target {
    /// Reads a URL (`postgres://user:password@host:port/database?parameters`) or pairs (`host=… user=…`).
    ///
    /// # Errors
    /// [`LockError::Config`] for what cannot be read, is not known or contradicts itself.
    pub(crate) fn parse(text: &str) -> LockResult<Self> {
        Self::new(Parameters::parse(text)?)
    }

    /// The same from parameters that are left when others were taken off.
    pub(crate) fn new(mut parameters: Parameters) -> LockResult<Self> {
        let (mode, root) = (parameters.take("sslmode"), parameters.take("sslrootcert"));
        let mut config = parameters.to_config()?;
        let hosts = endpoints(&config)?;
        let is_safe = root.is_none() && hosts.iter().all(Endpoint::is_on_this_machine);
        let given = mode.as_deref().map(SslMode::parse).transpose()?;
        let mode = match given {
            Some(mode) => mode,
            None if is_safe => SslMode::Disable,
            None => SslMode::VerifyFull,
        };
        let encryption = GivenEncryption { mode: given, used: mode, root: root.as_deref() };
        contradictions::refuse(&parameters, &encryption, &hosts)?;
        if parameters.has("sslnegotiation") && mode < SslMode::Require {
            return Err(LockError::Config(
                "sslnegotiation needs an sslmode that requires encryption: verify-full, verify-ca or \
                 require"
                    .into(),
            ));
        }
        let tls = Tls::new(mode, root.as_deref())?;
        config.ssl_mode(match mode {
            SslMode::Disable => Encryption::Disable,
            SslMode::Prefer => Encryption::Prefer,
            _ => Encryption::Require,
        });
        set_defaults(&mut config, &parameters);
        let (first, warned) = Default::default();
        let is_named = parameters.has("application_name");
        Ok(Self { config, tls, hosts, is_named, first, warned })
    }

    /// Whether the connection string says which database; without it, it is the one with the user's
    /// name.
    pub(crate) fn names_database(&self) -> bool {
        self.config.get_dbname().is_some()
    }

    /// Whether it asks for a server that only reads.
    pub(crate) fn wants_read_only(&self) -> bool {
        self.config.get_target_session_attrs() == TargetSessionAttrs::ReadOnly
    }

    /// How long the connection string gives each host to answer.
    pub(crate) fn connect_timeout(&self) -> Option<Duration> {
        self.config.get_connect_timeout().copied()
    }

    /// Sets what the server shows for our sessions.
    ///
    /// # Errors
    /// [`LockError::Config`] if the connection string says something else.
    pub(crate) fn with_application_name(mut self, name: &str) -> LockResult<Self> {
        if self.is_named && self.config.get_application_name() != Some(name) {
            return Err(LockError::Config(
                "application_name is given twice: in the connection string and as an option".into(),
            ));
        }
        self.config.application_name(name);
        Ok(self)
    }

    /// Connects to the first of the hosts that lets us.
    ///
    /// # Errors
    /// What the first host said that refused, with its name, or else the last: [`LockError::Backend`] if
    /// it answered, transient if it, or another, may let us in later; [`LockError::Connection`] if none
    /// answered; [`LockError::Config`] if it asks for a password that there is not.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection that was being made.
    pub(crate) async fn connect(&self) -> LockResult<(Client, Wire)> {
        let mut failed: Option<(Failure, &Endpoint)> = None;
        let mut may_pass = false;
        for (number, endpoint) in self.in_order() {
            // If this future is dropped meanwhile, the next one begins behind this host.
            self.first.store(number + 1, Ordering::Relaxed);
            match self.connect_to(endpoint).await {
                Ok(connected) => {
                    self.first.store(number, Ordering::Relaxed);
                    return Ok(connected);
                }
                Err(failure) => {
                    may_pass |= failure.passes();
                    failed = Some(match failed {
                        Some((before, first)) if before.outweighs(&failure) => (before, first),
                        _ => (failure, endpoint),
                    });
                }
            }
        }
        // There is always a host.
        Err(failed.map_or(LockError::Cancelled, |(failure, host)| failure.of(host, may_pass)))
    }

    /// Ends the statement that runs in the session of the token, if one does. When this returns, the
    /// server has sent the signal: a later statement of that session cannot be hit.
    ///
    /// It makes a connection of its own, to each of several hosts, because the token does not say which
    /// it belongs to; the others ignore it.
    ///
    /// # Errors
    /// If no host took it.
    ///
    /// # Cancel safety
    /// Dropping the future may still cancel what runs, or what runs next.
    pub(crate) async fn cancel(&self, token: &CancelToken) -> LockResult<()> {
        let mut result = None;
        for (_, endpoint) in self.in_order() {
            match self.cancel_at(endpoint, token).await {
                Ok(()) => result = Some(Ok(())),
                Err(failed) if result.is_none() => result = Some(Err(failed.of(endpoint, false))),
                Err(_) => {}
            }
        }
        result.unwrap_or(Ok(()))
    }

    /// The hosts with their numbers, in the order in which they are tried.
    fn in_order(&self) -> impl Iterator<Item = (usize, &Endpoint)> {
        let (first, count) = (self.first.load(Ordering::Relaxed), self.hosts.len());
        let mut numbers: Vec<_> = (first..first + count).map(|number| number % count).collect();
        self.shuffle(&mut numbers);
        numbers.into_iter().map(|number| (number, &self.hosts[number]))
    }

    /// If the connection string asks for it.
    fn shuffle<T>(&self, items: &mut [T]) {
        if self.config.get_load_balance_hosts() == LoadBalanceHosts::Random {
            items.sort_by_cached_key(|_| RandomState::new().hash_one(()));
        }
    }

    async fn connect_to(&self, endpoint: &Endpoint) -> Result<(Client, Wire), Failure> {
        let mut addresses = endpoint.addresses().await?;
        self.shuffle(&mut addresses);
        let patience = match self.config.get_connect_timeout() {
            Some(timeout) => Some(*timeout),
            None => (self.hosts.len() > 1 || addresses.len() > 1).then_some(PATIENCE),
        };
        let mut error = None;
        for address in addresses {
            let connecting = self.log_in(endpoint, &address);
            let connected = match patience {
                None => connecting.await,
                Some(limit) => match within(limit, connecting).await {
                    Some(connected) => connected,
                    None => Err(Failure::Client(NoAnswer(limit).into())),
                },
            };
            match connected {
                Ok(connected) => return Ok(connected),
                Err(failed) => error = Some(Failure::or(error, failed)),
            }
        }
        Err(error.unwrap_or_else(|| io::Error::other("the host's name has no address").into()))
    }

    async fn log_in(
        &self,
        endpoint: &Endpoint,
        address: &Address,
    ) -> Result<(Client, Wire), Failure> {
        let mut stream = self.open(address).await?;
        let mut config = self.config.clone();
        if stream.tcp().is_none() {
            config.ssl_mode(Encryption::Disable);
        }
        if config.get_ssl_mode() == Encryption::Disable {
            stream = stream.measured();
        }
        let connector = self.tls.connector(&endpoint.server_name());
        let encrypted = connector.used();
        let connected = config.connect_raw(stream, connector).await;
        let is_encrypted = encrypted.load(Ordering::Relaxed);
        let (client, mut wire) = match connected {
            Ok(connected) => connected,
            Err(error) if config.get_ssl_mode() == Encryption::Require && !is_encrypted => {
                return Err(match source_of::<io::Error>(&error) {
                    Some(_) => Failure::Server(error),
                    None => Failure::Answer(NoEncryption.into()),
                });
            }
            Err(error) if config.get_password().is_none() && lacks_password(&error) => {
                return Err(Failure::NoPassword);
            }
            Err(error) => return Err(Failure::Server(error)),
        };
        if config.get_ssl_mode() == Encryption::Prefer
            && !is_encrypted
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                server = %endpoint,
                "the server has no TLS: with sslmode=prefer the connection is not encrypted"
            );
        }
        self.check_attributes(&client, &mut wire).await?;
        Ok((client, wire))
    }

    async fn open(&self, address: &Address) -> io::Result<Stream> {
        let stream = Stream::connect(address).await?;
        if let Some(socket) = stream.tcp() {
            #[cfg(any(target_os = "android", target_os = "linux"))]
            socket.set_tcp_user_timeout(self.config.get_tcp_user_timeout().copied())?;
            if self.config.get_keepalives() {
                let mut keepalive =
                    TcpKeepalive::new().with_time(self.config.get_keepalives_idle());
                if let Some(interval) = self.config.get_keepalives_interval() {
                    keepalive = keepalive.with_interval(interval);
                }
                if let Some(retries) = self.config.get_keepalives_retries() {
                    keepalive = keepalive.with_retries(retries);
                }
                socket.set_tcp_keepalive(&keepalive)?;
            }
        }
        Ok(stream)
    }

    /// Whether it is a server of the kind that `target_session_attrs` asks for.
    async fn check_attributes(&self, client: &Client, wire: &mut Wire) -> Result<(), Failure> {
        let wanted = match self.config.get_target_session_attrs() {
            TargetSessionAttrs::ReadWrite => "off",
            TargetSessionAttrs::ReadOnly => "on",
            _ => return Ok(()),
        };
        let mut question = pin!(client.simple_query("SHOW transaction_read_only"));
        let answers = poll_fn(|context| {
            while let Poll::Ready(message) = wire.poll_message(context) {
                match message {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Poll::Ready(Err(Failure::Server(error))),
                    None => {
                        return Poll::Ready(Err(
                            io::Error::from(io::ErrorKind::UnexpectedEof).into()
                        ));
                    }
                }
            }
            question.as_mut().poll(context).map_err(Failure::Server)
        });
        let is_as_wanted = answers.await?.iter().any(
            |answer| matches!(answer, SimpleQueryMessage::Row(row) if row.get(0) == Some(wanted)),
        );
        if is_as_wanted { Ok(()) } else { Err(Failure::Answer(WrongAttributes.into())) }
    }

    async fn cancel_at(&self, endpoint: &Endpoint, token: &CancelToken) -> Result<(), Failure> {
        let mut result = None;
        let addresses = endpoint.addresses().await?;
        let several = self.hosts.len() > 1 || addresses.len() > 1;
        for address in addresses {
            let cancelling = self.cancel_by(endpoint, &address, token);
            let cancelled = match several {
                false => cancelling.await,
                true => match within(PATIENCE, cancelling).await {
                    Some(cancelled) => cancelled,
                    None => Err(Failure::Client(NoAnswer(PATIENCE).into())),
                },
            };
            // One of them has the session, and it is not known which; the others do not know the token.
            if cancelled.is_ok() || result.is_none() {
                result = Some(cancelled);
            }
        }
        result.unwrap_or(Ok(()))
    }

    async fn cancel_by(
        &self,
        endpoint: &Endpoint,
        address: &Address,
        token: &CancelToken,
    ) -> Result<(), Failure> {
        let stream = self.open(address).await?;
        let answer = stream.duplicate()?;
        let connector = ConnectUnclosed(self.tls.connector(&endpoint.server_name()));
        let sent = token.cancel_query_raw(Unclosed(stream), connector).await;
        sent.map_err(Failure::Server)?;
        // The server closes the connection when it has sent the signal, and not before.
        Ok(answer.closed().await?)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client library's form leaves the password out.
        f.debug_struct("Target")
            .field("config", &self.config)
            .field("sslmode", &self.tls.mode())
            .finish()
    }
}

/// Whether logging in failed at the client, which had no password to give: there is no answer of the
/// server's, and the link did not fail.
fn lacks_password(error: &tokio_postgres::Error) -> bool {
    let is_other = source_of::<io::Error>(error).is_none() && error.as_db_error().is_none();
    is_other && std::error::Error::source(error).is_some()
}

/// Ours where the connection string says nothing.
fn set_defaults(config: &mut Config, given: &Parameters) {
    if !given.has("application_name") {
        config.application_name(APPLICATION_NAME);
    }
    if !given.has("target_session_attrs") && config.get_hosts().len() > 1 {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    if !given.has("keepalives_idle") {
        config.keepalives_idle(KEEPALIVE_IDLE);
    }
    if !given.has("keepalives_interval") {
        config.keepalives_interval(KEEPALIVE_INTERVAL);
    }
    if !given.has("keepalives_retries") {
        config.keepalives_retries(KEEPALIVE_RETRIES);
    }
    if !given.has("tcp_user_timeout") {
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
}

#[cfg(test)]
mod tests;
