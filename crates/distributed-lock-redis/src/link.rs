//! One connection to the server, and a second one for messages where the protocol needs it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::StreamExt;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, Pipeline, ProtocolVersion, PushInfo, PushKind, RedisResult,
    Value,
};
use tokio::sync::OnceCell;
use tokio::task::{JoinHandle, unconstrained};

use crate::failure::{ends_link, wants_script};
use crate::mailbox::Mailbox;
use crate::script::Run;

/// A connection that all tasks of a provider share. Once it is known to be broken it stays so.
pub(crate) struct Link {
    /// Tells links of one provider apart.
    pub(crate) number: u64,
    client: Client,
    connection: MultiplexedConnection,
    fate: Arc<Fate>,
    /// How many requests were answered: if none was since a request left, nothing was.
    replies: AtomicU64,
    /// With RESP3 made when somebody waits for the first time.
    subscription: OnceCell<Option<Listener>>,
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
        number: u64,
        (channel, mailbox): (&str, Arc<Mailbox>),
        config: AsyncConnectionConfig,
    ) -> RedisResult<Self> {
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
        let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let (replies, subscription) = (AtomicU64::new(0), OnceCell::new());
        let link = Self { number, client, connection, fate, replies, subscription };
        if !has_pushes(&link.client) {
            // The second connection is made with the first, so that there are always two. A user who
            // may not subscribe can still try; waiting then says why it cannot.
            match link.subscribe(channel).await {
                Err(error) if ends_link(&error) => return Err(error),
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

    /// How many requests it has answered so far.
    pub(crate) fn replies(&self) -> u64 {
        self.replies.load(Ordering::Relaxed)
    }

    /// Listens to a channel, from the first call on.
    pub(crate) async fn subscribe(&self, channel: &str) -> RedisResult<()> {
        self.subscription.get_or_try_init(|| self.listen(channel)).await.map(drop)
    }

    async fn listen(&self, channel: &str) -> RedisResult<Option<Listener>> {
        if has_pushes(&self.client) {
            let subscribed = self.connection.clone().subscribe(channel).await;
            self.settle(subscribed)?;
            return Ok(None);
        }
        let mut messages = self.client.get_async_pubsub().await?;
        messages.subscribe(channel).await?;
        let (sink, mut messages) = messages.split();
        let fate = Arc::clone(&self.fate);
        Ok(Some(Listener(tokio::spawn(async move {
            // The connection lasts as long as both of its halves.
            let _sink = sink;
            while let Some(message) = messages.next().await {
                fate.mailbox.deliver(message.get_payload_bytes());
            }
            fate.give_up();
        }))))
    }

    /// Runs a script, which the server need not know yet.
    pub(crate) async fn run(&self, run: Run<'_>) -> RedisResult<Value> {
        match self.call(&run.by_hash()).await {
            Err(error) if wants_script(&error) => self.call(&run.in_full()).await,
            result => result,
        }
    }

    /// One request, one reply.
    pub(crate) async fn call(&self, command: &Cmd) -> RedisResult<Value> {
        let mut connection = self.connection.clone();
        // Requests leave when they are first polled, in that order, whatever their task did before.
        let reply = unconstrained(connection.send_packed_command(command)).await;
        self.settle(reply.and_then(Value::extract_error))
    }

    /// Several requests in one write; an error of one of them is its reply.
    pub(crate) async fn call_all(&self, commands: &Pipeline) -> RedisResult<Value> {
        let mut connection = self.connection.clone();
        let replies = connection.send_packed_commands(commands, 0, commands.len());
        self.settle(unconstrained(replies).await.map(Value::Array))
    }

    fn settle<T>(&self, result: RedisResult<T>) -> RedisResult<T> {
        match &result {
            Err(error) if ends_link(error) => self.give_up(),
            _ => drop(self.replies.fetch_add(1, Ordering::Relaxed)),
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
