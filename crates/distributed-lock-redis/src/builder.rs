//! Building a Redis lock provider.

use std::sync::Arc;
use std::time::Duration;

use distributed_lock_core::clock::Clock;
use distributed_lock_core::error::{LockError, LockResult, NoAnswer};
use distributed_lock_core::runtime::require_io;
use distributed_lock_core::{AttemptToken, DriverProvider, Options};
use redis::ProtocolVersion;

use crate::any::{RedisDriver, Servers};
use crate::client::{Client, Patience};
use crate::driver::OneServer;
use crate::failure::{ServerError, lock_error};
use crate::health;
use crate::options::{RedisOptions, Wishes};
use crate::protocol::RedisProtocol;
use crate::redlock::servers::{Quorum, ServerId};
use crate::server_url;
use crate::several::{self, Member, Several};
use crate::types::RedisLockProvider;

impl RedisLockProvider {
    /// A provider with options; [`add_server`](RedisLockProviderBuilder::add_server) names the server.
    ///
    /// ```no_run
    /// use distributed_lock_redis::RedisLockProvider;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let provider = RedisLockProvider::builder().add_server("redis://localhost:6379").build().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> RedisLockProviderBuilder {
        RedisLockProviderBuilder::default()
    }
}

/// Builds a [`RedisLockProvider`].
#[derive(Clone, Default)]
#[must_use]
pub struct RedisLockProviderBuilder {
    servers: Vec<Server>,
    wishes: Wishes,
    protocol: RedisProtocol,
    engine: Options,
}

#[derive(Clone)]
enum Server {
    Url(String),
    Client(Box<redis::Client>),
}

impl RedisLockProviderBuilder {
    /// Adds a server: `redis://[user:password@]host[:port][/database]`, `rediss://` (the same with TLS) or
    /// `unix:///socket[?db=..&user=..&pass=..]`; each part is percent-decoded once. A URL that says more
    /// is refused. With more than one, which must be independent of each other, a lock
    /// is held by whoever holds it on a majority of them ([`redlock`](crate::redlock)).
    pub fn add_server(mut self, url: impl Into<String>) -> Self {
        self.servers.push(Server::Url(url.into()));
        self
    }

    /// Adds the server of an existing client, for what a URL cannot say. The provider makes its own
    /// connection with it, in the protocol that [`protocol`](Self::protocol) says.
    pub fn client(mut self, client: redis::Client) -> Self {
        self.servers.push(Server::Client(Box::new(client)));
        self
    }

    /// Sets how long a lease lasts that is not renewed, from 100 ms to a year, in whole milliseconds.
    /// Default: 30 s.
    pub fn expiry(mut self, expiry: Duration) -> Self {
        self.wishes.expiry = expiry;
        self
    }

    /// Sets how often held locks are extended. An extension that fails must be able to be repeated
    /// before the lease ends: a bit less than half the expiry always is. Default: a third of the expiry.
    pub fn extension_cadence(mut self, cadence: Duration) -> Self {
        self.wishes.extension_cadence = Some(cadence);
        self
    }

    /// Sets how much of its lease a lock must have left when it is granted; with less it is given
    /// back, and the acquire fails with [`Connection`](LockError::Connection). Less than the expiry.
    /// Default: a tenth of the expiry.
    pub fn min_validity(mut self, validity: Duration) -> Self {
        self.wishes.min_validity = Some(validity);
        self
    }

    /// Sets how long a lock is extended at most, from its grant on: then it is lost. Default: as long as
    /// it is held.
    pub fn max_hold(mut self, most: Duration) -> Self {
        self.engine = self.engine.max_hold(most);
        self
    }

    /// Whether held locks are extended. Without, each is lost when its lease ends. Default: they are.
    pub fn auto_extend(mut self, on: bool) -> Self {
        self.engine = self.engine.auto_extend(on);
        self
    }

    /// Sets for how long a server that was restarted or replaced is not counted when there are several:
    /// it may have forgotten locks. At least the longest expiry of any client of the group; zero counts
    /// it at once. Default: the expiry.
    ///
    /// It counts from when a client of the group has seen the server first. A group all of whose servers
    /// are new starts at once: a loss of all data of all servers at the same time cannot be told from that.
    pub fn restart_guard(mut self, guard: Duration) -> Self {
        self.wishes.restart_guard = Some(guard);
        self
    }

    /// Sets how long one request may take. Default: 2 s.
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.engine = self.engine.operation_timeout(timeout);
        self
    }

    /// Sets what the keys of mutexes begin with. Default: `distributed-lock:`. With an empty prefix the
    /// key is the bare name, as other programs may have it.
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.wishes.key_prefix = prefix.into();
        self
    }

    /// Sets what holders call themselves, shown to people who wait; at most 256 bytes. Default: nothing.
    /// It is part of the mutex key's value.
    pub fn owner_label(mut self, label: impl Into<String>) -> Self {
        self.wishes.label = Some(label.into());
        self
    }

    /// Sets the version of the protocol. Default: RESP3 if the server speaks it, else RESP2.
    pub fn protocol(mut self, protocol: RedisProtocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Keeps renewals and the connection on the library's own thread, so that a blocked runtime loses
    /// nothing. Default: on the runtime in use.
    pub fn keeper_thread(mut self, on: bool) -> Self {
        self.engine = self.engine.keeper_thread(on);
        self
    }

    /// Sets the clock of the leases. Default: the machine's.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.engine = self.engine.clock(clock);
        self
    }

    /// Connects, and warns once (by `tracing`) of what about the server would break a promise.
    ///
    /// # Errors
    /// [`LockError::Config`] for an option or URL that cannot be used, and outside of a runtime that has
    /// timers and I/O; [`LockError::Connection`] if the
    /// server, or a majority of several, does not answer within the operation timeout;
    /// [`LockError::Backend`] if it refuses the login; [`LockError::Unsupported`] if it runs no scripts or is
    /// a node of a Redis Cluster.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn build(self) -> LockResult<RedisLockProvider> {
        let options = self.engine.clone();
        let driver = self.build_driver().await?;
        Ok(RedisLockProvider::over(DriverProvider::new(driver, options)))
    }

    /// Builds the driver alone, for those who wrap it in another.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub async fn build_driver(self) -> LockResult<RedisDriver> {
        let limit = self.engine.operation_timeout;
        let options = self.check()?;
        let mut clients = self.clients()?;
        require_io()?;
        let connecting = async {
            match (clients.pop(), clients.is_empty()) {
                (None, _) => Err(LockError::Config("no server: add_server names one".into())),
                (Some(client), true) => {
                    let client = self.connect(client, &options).await?;
                    health::check(&client, &options.key_prefix).await?;
                    Ok(RedisDriver(Servers::One(OneServer::new(client, options))))
                }
                (Some(last), false) => {
                    clients.push(last);
                    self.connect_all(clients, options).await
                }
            }
        };
        match tokio::time::timeout(limit, connecting).await {
            Ok(driver) => driver,
            Err(_) => Err(LockError::connection(self.silent(limit))),
        }
    }

    fn check(&self) -> LockResult<RedisOptions> {
        let config = |reason: &str| Err(LockError::Config(reason.into()));
        if self.wishes.extension_cadence.is_some() && !self.engine.auto_extend {
            return config("extension_cadence and auto_extend(false) contradict each other");
        }
        if self.wishes.restart_guard.is_some() && self.servers.len() == 1 {
            return config("restart_guard is for several servers, and there is one");
        }
        self.engine.check(Some(self.wishes.expiry))?;
        self.wishes.clone().check(self.engine.operation_timeout)
    }

    fn clients(&self) -> LockResult<Vec<redis::Client>> {
        if self.servers.len() > usize::from(Quorum::MOST) {
            return Err(LockError::Config(format!("more than {} servers", Quorum::MOST)));
        }
        let client = |server: &Server| match server {
            Server::Client(client) => Ok(client.as_ref().clone()),
            Server::Url(url) => server_url::open(url),
        };
        self.servers.iter().map(client).collect()
    }

    fn silent(&self, limit: Duration) -> Silent {
        let address = |server: &Server| match server {
            Server::Client(client) => Some(client.get_connection_info().addr().to_string()),
            Server::Url(url) => {
                Some(server_url::open(url).ok()?.get_connection_info().addr().to_string())
            }
        };
        let servers: Vec<_> = self.servers.iter().filter_map(address).collect();
        Silent { servers: servers.join(", "), source: NoAnswer(limit) }
    }

    async fn connect_all(
        &self,
        clients: Vec<redis::Client>,
        options: RedisOptions,
    ) -> LockResult<RedisDriver> {
        // A server that is away when the provider is built is asked for RESP3 when it comes back,
        // unless others of the group have refused that.
        let mut version = self.protocol.versions()[0];
        let connecting =
            clients.iter().map(|client| Box::pin(self.connect(client.clone(), &options)));
        if let Ok((client, _)) = futures_util::future::select_ok(connecting).await {
            version = client.version();
        }
        let channel = channel()?;
        let mut members = Vec::with_capacity(clients.len());
        for (number, client) in (0..Quorum::MOST).zip(&clients) {
            let client = self.client_of(client, version, &channel, &options)?;
            members.push(Member::new(ServerId(number), client));
        }
        let operation_timeout = self.engine.operation_timeout;
        let clock = self.engine.clock.clone();
        let several = Several::new(members, options, operation_timeout, clock);
        several.introduce_all().await?;
        Ok(RedisDriver(Servers::Several(several)))
    }

    async fn connect(
        &self,
        server: redis::Client,
        options: &RedisOptions,
    ) -> LockResult<Arc<Client>> {
        let channel = channel()?;
        let mut refused = None;
        for version in self.protocol.versions() {
            let client = self.client_of(&server, *version, &channel, options)?;
            match client.link().await {
                Ok(_) => return Ok(client),
                Err(error @ LockError::Backend(_)) => {
                    // The first word counts, unless it was about the version.
                    let lacks_resp3 = |error: &LockError| {
                        error.find_source().is_some_and(ServerError::lacks_resp3)
                    };
                    if refused.as_ref().is_none_or(lacks_resp3) {
                        refused = Some(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(refused.unwrap_or_else(|| LockError::Config("no protocol".into())))
    }

    fn client_of(
        &self,
        server: &redis::Client,
        version: ProtocolVersion,
        channel: &str,
        options: &RedisOptions,
    ) -> LockResult<Arc<Client>> {
        let limit = self.engine.operation_timeout;
        // As the keeper bounds an extension: one without an answer must end the link, or the next
        // would be sent on it too.
        let extension = options.extension_cadence / 2;
        let shortest = match self.servers.len() {
            1 => limit.min(extension),
            _ => several::longest_wait(limit).min(extension),
        };
        let patience = Patience { request: shortest * 9 / 10, connect: limit };
        let (server, clock) = (speaking(server, version)?, self.engine.clock.clone());
        Ok(Client::new(server, channel.to_owned(), self.engine.home, patience, clock))
    }
}

/// Source of [`LockError::Connection`] when no server answered while a provider was built.
#[derive(Debug)]
struct Silent {
    servers: String,
    source: NoAnswer,
}

impl std::fmt::Display for Silent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.servers)
    }
}

impl std::error::Error for Silent {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A channel for the messages to one provider.
fn channel() -> LockResult<String> {
    Ok(format!("distributed-lock/1:process:{}", AttemptToken::random()?))
}

impl std::fmt::Debug for RedisLockProviderBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisLockProviderBuilder")
            .field("servers", &self.servers.len())
            .field("wishes", &self.wishes)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

/// The same server in one version of the protocol, without delays.
fn speaking(client: &redis::Client, version: ProtocolVersion) -> LockResult<redis::Client> {
    let info = client.get_connection_info().clone();
    let mut settings = info.redis_settings().clone().set_protocol(version);
    if version != ProtocolVersion::RESP3 {
        // A proxy that only knows RESP2 may close a connection that asks for CLIENT SETINFO.
        settings = settings.set_skip_set_lib_name();
    }
    // Requests of many tasks fill more than one packet; the last must not wait for an acknowledgement.
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let tcp = tcp.set_user_timeout(crate::link::USER_TIMEOUT);
    let info = info.set_redis_settings(settings).set_tcp_settings(tcp);
    let address = info.addr().to_string().into();
    redis::Client::open(info).map_err(|error| lock_error(ServerError::new(&address, error)))
}
