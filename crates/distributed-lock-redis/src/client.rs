//! A provider's access to its server: the link in use, and how it is replaced.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use distributed_lock_core::background::{Home, library_runtime};
use distributed_lock_core::clock::{Clock, Moment};
use distributed_lock_core::error::LockResult;
use redis::{AsyncConnectionConfig, ErrorKind, RedisError, Value};
use tokio::runtime::{Handle, Id};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::connect_pace::ConnectPace;
use crate::failure::{ServerError, cuts_link, forbids, is_demoted, lock_error};
use crate::greeting;
use crate::link::{Link, ServerResult};
use crate::mailbox::Mailbox;
use crate::script::Request;

/// The server, over one link at a time.
///
/// The link is served by the runtime that uses the provider, which costs no hop between threads.
/// Used from a second runtime, it moves to the library thread for good, as the keeper does.
pub(crate) struct Client {
    server: redis::Client,
    /// Names the server in errors.
    address: Arc<str>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) channel: String,
    pub(crate) clock: Arc<dyn Clock>,
    /// A request that is given up after this, without any reply on its link since, ends the link.
    patience: Duration,
    connect_timeout: Duration,
    /// Whether a script was run, and none was forbidden since: without scripts nothing can be given back.
    runs_scripts: AtomicBool,
    seat: Mutex<Seat>,
    links: AtomicU64,
    pace: Arc<ConnectPace>,
    /// When the last connect that failed began, and why it failed.
    failed: Mutex<Option<(Instant, ServerError)>>,
    /// Those who need a link at the same moment make one: here, and on the library thread.
    turns: [tokio::sync::Mutex<()>; 2],
}

/// How old a connection is that is replaced when its server turns out to be read-only.
const SETTLED: Duration = Duration::from_secs(1);

struct Seat {
    place: Place,
    link: Option<Arc<Link>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Open,
    On(Id),
    Library,
}

/// How long requests may take.
pub(crate) struct Patience {
    /// A request given up later than this was not answered.
    pub(crate) request: Duration,
    /// The longest time for a connection.
    pub(crate) connect: Duration,
}

impl Client {
    pub(crate) fn new(
        server: redis::Client,
        channel: String,
        home: Home,
        patience: Patience,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let place = match home {
            Home::CurrentRuntime => Place::Open,
            Home::LibraryThread => Place::Library,
        };
        let address = server.get_connection_info().addr().to_string().into();
        Arc::new(Self {
            server,
            address,
            mailbox: Arc::default(),
            channel,
            clock,
            patience: patience.request,
            connect_timeout: patience.connect,
            runs_scripts: AtomicBool::new(false),
            seat: Mutex::new(Seat { place, link: None }),
            links: AtomicU64::new(0),
            pace: Arc::default(),
            failed: Mutex::default(),
            turns: Default::default(),
        })
    }

    /// Host and port of the server, or the path of its socket.
    pub(crate) fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// The version of the protocol that it speaks.
    pub(crate) fn version(&self) -> redis::ProtocolVersion {
        self.server.get_connection_info().redis_settings().protocol()
    }

    /// Makes a request that bears to be made twice. `before` is called with the link before it leaves:
    /// a link that turns out to be closed is replaced, and the request made once more.
    pub(crate) async fn run(
        self: &Arc<Self>,
        request: impl Into<Request<'_>>,
        mut before: impl FnMut(&Link),
    ) -> LockResult<Value> {
        let request = request.into();
        let mut link = self.link().await?;
        for is_last in [false, true] {
            before(&link);
            match self.ask(&link, request).await {
                Err(error) if cuts_link(&error) && !is_last => link = self.link().await?,
                result => return result.map_err(lock_error),
            }
        }
        Err(lock_error(self.broken("the connection was closed twice")))
    }

    /// Makes a request on this link and no other.
    pub(crate) async fn request_on(
        &self,
        link: &Link,
        request: impl Into<Request<'_>>,
    ) -> LockResult<Value> {
        self.ask(link, request.into()).await.map_err(lock_error)
    }

    async fn ask(&self, link: &Link, request: Request<'_>) -> ServerResult<Value> {
        let question = Question::on(link, self);
        let result = match request {
            Request::Script(run) => {
                let result = link.run(run).await;
                match &result {
                    Ok(_) => self.runs_scripts.store(true, Ordering::Relaxed),
                    Err(error) if forbids(error) => {
                        self.runs_scripts.store(false, Ordering::Relaxed)
                    }
                    // It says nothing about scripts.
                    Err(_) => {}
                }
                result
            }
            Request::Commands(commands) => link.call_all(commands).await,
        };
        question.answered();
        if result.as_ref().is_err_and(is_demoted) {
            self.leave_demoted(link);
        }
        result
    }

    /// A server that is read-only was a primary, perhaps: the next connection resolves its name again, but
    /// not at once if this one is new.
    fn leave_demoted(&self, link: &Link) {
        if self.clock.now().since(link.opened) >= SETTLED {
            link.give_up();
        }
    }

    /// The link in use that this runtime can rely on, or a new one.
    pub(crate) async fn link(self: &Arc<Self>) -> LockResult<Arc<Link>> {
        let current = Handle::try_current().ok().map(|runtime| runtime.id());
        if let Some(link) = self.usable(current) {
            return Ok(link);
        }
        let place = self.seat().place;
        let library = library_runtime();
        let here = match (place, library) {
            (Place::Library, Some(library)) => current == Some(library.id()),
            _ => true,
        };
        let made = match library {
            Some(library) if !here => {
                let this = Arc::clone(self);
                let connecting =
                    library.spawn(async move { this.connect(Place::Library, 1).await });
                match Spawned(connecting).await {
                    Some(made) => made,
                    None => Err(self.broken("the library thread has ended")),
                }
            }
            _ => self.connect(place, 0).await,
        };
        made.map_err(lock_error)
    }

    /// Whether the user may run scripts, as far as is known.
    pub(crate) fn runs_scripts(&self) -> bool {
        self.runs_scripts.load(Ordering::Relaxed)
    }

    /// Listens for messages on the link in use.
    pub(crate) async fn subscribe(self: &Arc<Self>) -> LockResult<()> {
        match self.subscribe_on(&self.link().await?).await {
            Err(error) if cuts_link(&error) => self.subscribe_on(&self.link().await?).await,
            result => result,
        }
        .map_err(lock_error)
    }

    async fn subscribe_on(self: &Arc<Self>, link: &Arc<Link>) -> ServerResult<()> {
        let question = Question::on(link, self);
        let result = link.subscribe(&self.channel).await;
        question.answered();
        result
    }

    fn usable(&self, current: Option<Id>) -> Option<Arc<Link>> {
        let mut seat = self.seat();
        match (seat.place, current) {
            (Place::Library, _) => {}
            (Place::On(runtime), Some(current)) if runtime == current => {}
            (Place::Open, Some(current)) => seat.place = Place::On(current),
            _ => *seat = Seat { place: Place::Library, link: None },
        }
        let link = seat.link.clone().filter(|link| !link.is_broken())?;
        drop(seat);
        if link.is_silent(|| self.clock.now()) {
            // What was asked on it may still be answered.
            link.give_up();
            return None;
        }
        Some(link)
    }

    async fn connect(&self, place: Place, turn: usize) -> ServerResult<Arc<Link>> {
        let asked = Instant::now();
        let _turn = self.turns[turn].lock().await;
        let made_meanwhile = || self.seat().link.clone().filter(|link| !link.is_broken());
        if let Some(link) = made_meanwhile() {
            return Ok(link);
        }
        // A connect that fails has failed for all tasks that asked before it began.
        if let Some((began, error)) = &*self.failed()
            && *began >= asked
        {
            return Err(error.clone());
        }
        let link = Arc::new(self.open().await?);
        let mut seat = self.seat();
        // If the provider has moved on meanwhile, this one is for its caller alone.
        if seat.place == place {
            seat.link = Some(Arc::clone(&link));
        }
        Ok(link)
    }

    /// The next request is made on a new link.
    pub(crate) fn leave_link(&self) {
        let link = self.seat().link.take();
        if let Some(link) = link {
            link.give_up();
        }
    }

    /// A link for the caller alone, on the runtime that this is called on.
    pub(crate) async fn link_apart(&self) -> LockResult<Link> {
        self.open().await.map_err(lock_error)
    }

    fn broken(&self, why: &'static str) -> ServerError {
        ServerError::new(&self.address, RedisError::from((ErrorKind::Io, why)))
    }

    /// A connection that ends during its handshake is made once more if the one before it was in use: it
    /// was ended, too, by what ended that one.
    async fn open(&self) -> ServerResult<Link> {
        let was_in_use = self.pace.is_in_use();
        let (mut began, mut opened) = self.open_once().await;
        if was_in_use && opened.as_ref().is_err_and(ServerError::was_closed) {
            (began, opened) = self.open_once().await;
        }
        let error = match opened {
            Ok(link) => return Ok(link),
            Err(error) => error,
        };
        // The question is a connect, too.
        let may_ask = error.may_have_a_better_reason() && self.pace.try_begin().is_ok();
        let error = if may_ask { self.explained(error).await } else { error };
        *self.failed() = Some((began, error.clone()));
        Err(error)
    }

    /// Connects when that is due; says when it began.
    async fn open_once(&self) -> (Instant, ServerResult<Link>) {
        let began = self.pace.begin().await;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(None);
        let number = self.links.fetch_add(1, Ordering::Relaxed);
        let messages = (self.channel.as_str(), Arc::clone(&self.mailbox));
        let opened = self.clock.now();
        let server = self.server.clone();
        let (name, times) = ((number, &self.address), (opened, self.patience));
        let opening = Link::open(server, name, times, messages, config);
        let opened_in_time = timeout(self.connect_timeout, opening).await.unwrap_or_else(|_| {
            let silent = io::Error::from(io::ErrorKind::TimedOut);
            Err(ServerError::new(&self.address, RedisError::from(silent)))
        });
        let link = opened_in_time.map(|link| {
            self.pace.connected(began);
            let took = self.clock.now().since(opened);
            link.opened_in(took, self.connect_timeout, Arc::clone(&self.pace))
        });
        (began, link)
    }

    /// What the server itself says of a connection that it does not accept.
    async fn explained(&self, error: ServerError) -> ServerError {
        let info = self.server.get_connection_info();
        let is_resp3 = self.version() == redis::ProtocolVersion::RESP3;
        let reason = greeting::reason(info.addr(), is_resp3).await;
        reason.map_or(error, |reason| ServerError::new(&self.address, reason))
    }

    fn failed(&self) -> MutexGuard<'_, Option<(Instant, ServerError)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("channel", &self.channel).finish_non_exhaustive()
    }
}

/// A request under way. Dropped without an answer after a long time on a silent link, it ends the
/// link: the drivers' requests are bounded by the engine, which drops them.
struct Question<'a> {
    link: &'a Link,
    client: &'a Client,
    sent: Moment,
    replies: u64,
    is_open: bool,
}

impl<'a> Question<'a> {
    fn on(link: &'a Link, client: &'a Client) -> Self {
        let (sent, replies) = (client.clock.now(), link.replies());
        link.request_leaves(sent);
        Self { link, client, sent, replies, is_open: true }
    }

    fn answered(mut self) {
        self.is_open = false;
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.link.request_ends();
        if self.is_open
            && self.link.replies() == self.replies
            && self.client.clock.now().since(self.sent) >= self.link.patience()
        {
            self.link.give_up();
        }
    }
}

/// A task that ends with its awaiting future; `None` if it was ended first.
struct Spawned<T>(JoinHandle<T>);

impl<T> Future for Spawned<T> {
    type Output = Option<T>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        std::pin::Pin::new(&mut self.0).poll(context).map(Result::ok)
    }
}

impl<T> Drop for Spawned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
