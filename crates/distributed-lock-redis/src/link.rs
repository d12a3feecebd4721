//! One connection to the server, and a second one for messages where the protocol needs it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use distributed_lock_core::clock::Moment;
use futures_util::StreamExt;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, Pipeline, ProtocolVersion, PushInfo, PushKind, RedisResult,
    Value,
};
use tokio::sync::OnceCell;
use tokio::task::{JoinHandle, unconstrained};

use crate::bounded::{self, Driving};
use crate::connect_pace::ConnectPace;
use crate::failure::{ServerError, cuts_link, forbids, wants_script};
use crate::mailbox::Mailbox;
use crate::script::Run;

/// How long the kernel goes on sending what the server's host does not acknowledge, after the connection
/// was closed here, too.
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "set where the system has it"))]
pub(crate) const USER_TIMEOUT: Duration = Duration::from_secs(30);

const PERMIT_PING: &str = "ACL SETUSER <user> +ping: with RESP2 each connection begins with PING";

/// What became of a request.
pub(crate) type ServerResult<T> = Result<T, ServerError>;

/// A connection that all tasks of a provider share. Once it is known to be broken it stays so.
pub(crate) struct Link {
    /// Tells links of one provider apart.
    pub(crate) number: u64,
    /// When it was begun to be made.
    pub(crate) opened: Moment,
    /// Names the server in errors.
    server: Arc<str>,
    client: Client,
    connection: MultiplexedConnection,
    fate: Arc<Fate>,
    /// How many requests were answered: if none was since a request left, nothing was.
    replies: AtomicU64,
    /// How many requests are under way.
    under_way: AtomicU64,
    /// When the first request left since the last reply, in nanoseconds of the provider's clock; 0 for
    /// none.
    silent_since: AtomicU64,
    /// For how long it may be silent before it is taken for dead.
    patience: Duration,
    /// Notified of each answer, once the connection is made.
    pace: Option<Arc<ConnectPace>>,
    /// With RESP3 made when somebody waits for the first time.
    subscription: OnceCell<Option<Listener>>,
    _driving: Driving,
}

struct Fate {
    is_broken: AtomicBool,
    mailbox: Arc<Mailbox>,
}

/// The task that reads messages from a connection of its own.
struct Listener(JoinHandle<()>);

impl Link {
    /// Connects, on the runtime that it is called on.
    pub(crate) async fn open(
        client: Client,
        (number, server): (u64, &Arc<str>),
        (opened, patience): (Moment, Duration),
        (channel, mailbox): (&str, Arc<Mailbox>),
        config: AsyncConnectionConfig,
    ) -> ServerResult<Self> {
        let fate = Arc::new(Fate { is_broken: AtomicBool::new(false), mailbox });
        let config = if has_pushes(&client) {
            let fate = Arc::clone(&fate);
            config.set_push_sender(move |push: PushInfo| {
                fate.take(&push);
                Ok::<(), ()>(())
            })
        } else {
            config
        };
        // Without pushes the client library does not report the end of a connection.
        let ended = Arc::clone(&fate);
        let connection = bounded::connect(&client, &config, move || ended.give_up()).await;
        let (connection, driving) = connection.map_err(|error| ServerError::new(server, error))?;
        let server = Arc::clone(server);
        let link = Self {
            number,
            opened,
            server,
            client,
            connection,
            fate,
            replies: AtomicU64::new(0),
            under_way: AtomicU64::new(0),
            silent_since: AtomicU64::new(0),
            patience,
            pace: None,
            subscription: OnceCell::new(),
            _driving: driving,
        };
        if !has_pushes(&link.client) {
            // Without HELLO nothing was asked yet that a server which refuses this client must answer.
            link.call(&redis::cmd("PING")).await.map_err(|error| match forbids(&error) {
                true => error.with_remedy(PERMIT_PING),
                false => error,
            })?;
        }
        // With RESP2 the second connection is made with the first, so that there are always two. With
        // RESP3 a link that replaces another one subscribes at once if tasks wait. A user who may not
        // subscribe can still try; waiting then says why it cannot.
        if !has_pushes(&link.client) || link.fate.mailbox.has_waiters() {
            match link.subscribe(channel).await {
                Err(error) if cuts_link(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(link)
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.fate.is_broken.load(Ordering::Acquire)
    }

    /// Nobody shall use it any more.
    pub(crate) fn give_up(&self) {
        self.fate.give_up();
    }

    /// It was made in this time. It is taken for dead after a silence of a given length, unless it is slow
    /// itself: a connection that took long to make has long round trips. From now on its answers count for
    /// the pace of connects.
    pub(crate) fn opened_in(
        mut self,
        took: Duration,
        most: Duration,
        pace: Arc<ConnectPace>,
    ) -> Self {
        self.patience = self.patience.max(took.saturating_mul(2).min(most));
        self.pace = Some(pace);
        self
    }

    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// A request is about to leave.
    pub(crate) fn request_leaves(&self, now: Moment) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let now = now.as_nanos().max(1);
        // Another has left before and was not answered either.
        let _ = self.silent_since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// A request is not waited for any more.
    pub(crate) fn request_ends(&self) {
        if self.under_way.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.silent_since.store(0, Ordering::Relaxed);
        }
    }

    /// Whether requests are under way of which none has been answered for too long.
    pub(crate) fn is_silent(&self, now: impl FnOnce() -> Moment) -> bool {
        let since = self.silent_since.load(Ordering::Relaxed);
        since != 0 && now().since(Moment::from_nanos(since)) >= self.patience
    }

    /// How many requests it has answered so far.
    pub(crate) fn replies(&self) -> u64 {
        self.replies.load(Ordering::Relaxed)
    }

    /// Listens to a channel, from the first call on.
    pub(crate) async fn subscribe(&self, channel: &str) -> ServerResult<()> {
        self.subscription.get_or_try_init(|| self.listen(channel)).await.map(drop)
    }

    async fn listen(&self, channel: &str) -> ServerResult<Option<Listener>> {
        if has_pushes(&self.client) {
            let subscribed = self.connection.clone().subscribe(channel).await;
            self.settle(subscribed)?;
            return Ok(None);
        }
        let listening = self.listen_apart(channel).await;
        listening.map(Some).map_err(|error| ServerError::new(&self.server, error))
    }

    async fn listen_apart(&self, channel: &str) -> RedisResult<Listener> {
        let mut messages = bounded::connect_for_messages(&self.client).await?;
        messages.subscribe(channel).await?;
        let (sink, mut messages) = messages.split();
        let fate = Arc::clone(&self.fate);
        Ok(Listener(tokio::spawn(async move {
            // The connection lasts as long as both of its halves.
            let _sink = sink;
            while let Some(message) = messages.next().await {
                fate.mailbox.deliver(message.get_payload_bytes());
            }
            fate.give_up();
        })))
    }

    /// Runs a script, which the server need not know yet.
    pub(crate) async fn run(&self, run: Run<'_>) -> ServerResult<Value> {
        match self.call(&run.by_hash()).await {
            Err(error) if wants_script(&error) => self.call(&run.in_full()).await,
            result => result,
        }
    }

    /// One request, one reply.
    pub(crate) async fn call(&self, command: &Cmd) -> ServerResult<Value> {
        let mut connection = self.connection.clone();
        // Requests leave when they are first polled, in that order, whatever their task did before.
        let reply = unconstrained(connection.send_packed_command(command)).await;
        self.settle(reply.and_then(Value::extract_error))
    }

    /// Several requests in one write. The error of the first is that of all; of others it is their reply.
    pub(crate) async fn call_all(&self, commands: &Pipeline) -> ServerResult<Value> {
        let mut connection = self.connection.clone();
        let replies = connection.send_packed_commands(commands, 0, commands.len());
        let replies = unconstrained(replies).await.and_then(|mut replies| {
            if let Some(first) = replies.first_mut() {
                *first = std::mem::replace(first, Value::Nil).extract_error()?;
            }
            Ok(Value::Array(replies))
        });
        self.settle(replies)
    }

    fn settle<T>(&self, result: RedisResult<T>) -> ServerResult<T> {
        let result = result.map_err(|error| ServerError::new(&self.server, error));
        match &result {
            Err(error) if cuts_link(error) => self.give_up(),
            _ => {
                self.replies.fetch_add(1, Ordering::Relaxed);
                self.silent_since.store(0, Ordering::Relaxed);
                if let Some(pace) = &self.pace {
                    pace.answered();
                }
            }
        }
        result
    }
}

impl Fate {
    fn take(&self, push: &PushInfo) {
        match (&push.kind, push.data.as_slice()) {
            (PushKind::Message, [_, Value::BulkString(text)]) => self.mailbox.deliver(text),
            (PushKind::Disconnection, _) => self.give_up(),
            _ => {}
        }
    }

    fn give_up(&self) {
        if !self.is_broken.swap(true, Ordering::AcqRel) {
            self.mailbox.wake_all();
        }
    }
}

fn has_pushes(client: &Client) -> bool {
    client.get_connection_info().redis_settings().protocol() == ProtocolVersion::RESP3
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}
