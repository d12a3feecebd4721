//! A small server, and a client that drives the product's machines against several of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use distributed_lock_core::clock::{Clock, Moment};
use distributed_lock_redis::redlock::contest::{Contest, ContestCommand};
use distributed_lock_redis::redlock::drawing::{Drawing, DrawingCommand, Raised};
use distributed_lock_redis::redlock::release::{QuorumRelease, ReleaseCommand, ReleaseEvent};
use distributed_lock_redis::redlock::renewal::{Renewal, Renewed};
use distributed_lock_redis::redlock::round::{
    LinkCommand, LinkEvent, OwnerId, Round, RoundCommand, RoundEnd, RoundEvent, Verdict,
};
use distributed_lock_redis::redlock::sent::{Effect, LinkId};
use distributed_lock_redis::redlock::servers::{Quorum, ServerId, ServerSet};
use distributed_lock_redis::redlock::tally::Answer;
use distributed_lock_redis::redlock::timing::Timing;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use turmoil::net::{TcpListener, TcpStream};

const PORT: u16 = 6379;
pub(crate) const EXPIRY: Duration = Duration::from_millis(400);
const WORK: Duration = Duration::from_secs(8);

/// Question, owner, number; answer, number.
type Request = [u64; 3];
type Reply = [u64; 2];

const ACQUIRE: u64 = 0;
const UNDO: u64 = 1;
const STEP: u64 = 2;
const RAISE: u64 = 3;
const EXTEND: u64 = 4;

const DONE: u64 = 0;
const OTHER: u64 = 1;
const BEHIND: u64 = 2;

pub(crate) fn server_name(number: u8) -> String {
    format!("server-{number}")
}

/// One lock that expires, its counter, and what was undone. It starts empty, and counts only after
/// a lease has passed: that is the restart guard's promise.
#[derive(Default)]
struct Store {
    held: Option<(u64, Moment)>,
    counter: (u64, u64),
    undone: Vec<u64>,
}

impl Store {
    fn on(&mut self, now: Moment, [question, owner, number]: Request) -> Reply {
        self.held = self.held.filter(|(_, ends)| *ends > now);
        let is_own = self.held.is_some_and(|(holder, _)| holder == owner);
        match question {
            ACQUIRE if self.undone.contains(&owner) => [BEHIND, 0],
            ACQUIRE => match self.held {
                Some((holder, _)) if !is_own => [OTHER, holder],
                _ => {
                    self.held = Some((owner, now.after(EXPIRY)));
                    [DONE, 0]
                }
            },
            UNDO => {
                if number == 1 {
                    self.undone.push(owner);
                }
                self.held = self.held.filter(|_| !is_own);
                if is_own { [DONE, 0] } else { [OTHER, 0] }
            }
            _ if !is_own => [OTHER, 0],
            EXTEND => {
                self.held = Some((owner, now.after(EXPIRY)));
                [DONE, 0]
            }
            STEP => {
                // As a server does that has lost its counter: the time goes on.
                let next = (self.counter.0 + 1).max(now.as_nanos() / 1_000);
                self.counter = (next, owner);
                [DONE, next]
            }
            _ if self.counter.0 < number || self.counter == (number, owner) => {
                self.counter = (number, owner);
                [DONE, number]
            }
            _ => [BEHIND, 0],
        }
    }
}

pub(crate) async fn server() -> turmoil::Result {
    let (clock, store) = (clock(), Arc::new(Mutex::new(Store::default())));
    tokio::time::sleep(EXPIRY * 2).await;
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            loop {
                let mut request = [0; 3];
                for word in &mut request {
                    *word = stream.read_u64().await?;
                }
                let reply = store.lock().unwrap().on(clock.now(), request);
                for word in reply {
                    stream.write_u64(word).await?;
                }
            }
            #[expect(unreachable_code, reason = "says which error")]
            std::io::Result::Ok(())
        });
    }
}

/// Simulated time, the same on all hosts.
fn clock() -> SimulatedClock {
    SimulatedClock
}

#[derive(Debug, Clone, Copy)]
struct SimulatedClock;

impl Clock for SimulatedClock {
    fn now(&self) -> Moment {
        Moment::from_nanos(0).after(turmoil::sim_elapsed().unwrap_or_default())
    }
}

/// Who held it from when to when, with which token.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holds(Arc<Mutex<Vec<(Moment, Moment, u64)>>>);

impl Holds {
    /// How many were extended.
    pub(crate) fn extended(&self) -> usize {
        let holds = self.0.lock().unwrap();
        holds.iter().filter(|(from, until, _)| until.since(*from) > EXPIRY).count()
    }

    /// How many there were.
    pub(crate) fn check(&self) -> Result<u64, String> {
        let mut holds = self.0.lock().unwrap().clone();
        holds.sort_unstable();
        for pair in holds.windows(2) {
            let [(_, until, token), (from, _, next)] = pair else { continue };
            if from < until {
                return Err(format!("two holders: {pair:?}"));
            }
            if token >= next {
                return Err(format!("tokens do not grow: {pair:?}"));
            }
        }
        Ok(u64::try_from(holds.len()).unwrap())
    }
}

/// Asks one server, on a new connection each time; silence is an error.
async fn ask(number: u8, request: Request) -> std::io::Result<Reply> {
    let asked = async {
        let mut stream = TcpStream::connect((server_name(number), PORT)).await?;
        for word in request {
            stream.write_u64(word).await?;
        }
        Ok([stream.read_u64().await?, stream.read_u64().await?])
    };
    match tokio::time::timeout(EXPIRY * 2, asked).await {
        Ok(reply) => reply,
        Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
    }
}

type Answers = mpsc::UnboundedReceiver<(ServerId, std::io::Result<Reply>)>;

/// Asks servers in the background, which goes on when nobody listens any more.
fn ask_each(requests: impl Iterator<Item = (ServerId, Request)>) -> Answers {
    let (tell, answers) = mpsc::unbounded_channel();
    for (server, request) in requests {
        let tell = tell.clone();
        tokio::spawn(async move {
            let reply = ask(server.0, request).await;
            // Nobody may listen any more.
            let _ = tell.send((server, reply));
        });
    }
    answers
}

/// Takes the lock, draws a token, holds it for a while and gives it back, again and again.
pub(crate) async fn client(
    (quorum, timing): (Quorum, Timing),
    seed: u64,
    holds: Holds,
) -> turmoil::Result {
    let (clock, mut random) = (clock(), SmallRng::seed_from_u64(seed));
    let ends = clock.now().after(WORK);
    while clock.now() < ends {
        let mut contest = Contest::until(clock.now().after(Duration::from_secs(2)));
        let owner = loop {
            let owner: u64 = random.random();
            let (verdict, round) = round(quorum, timing, owner).await;
            let sent = round.begun();
            match verdict {
                Verdict::Granted(lease) => break Some((owner, lease, round)),
                Verdict::Split => match contest.on_split(clock.now(), sent, random.random()) {
                    ContestCommand::AgainAt(at) => {
                        tokio::time::sleep(at.since(clock.now())).await;
                    }
                    ContestCommand::GiveUp => break None,
                },
                _ => break None,
            }
        };
        if let Some((owner, lease, round)) = owner {
            let from = clock.now();
            let drawn = draw(quorum, timing, owner).await;
            let most = if random.random_bool(0.1) { 1_000 } else { 60 };
            let until = clock.now().after(Duration::from_millis(random.random_range(0..most)));
            let deadline = hold((quorum, timing), owner, lease.deadline(), until).await;
            // What it holds beyond the lease it does not believe in.
            let until = clock.now().min(deadline);
            if let Some(token) = drawn
                && from < until
            {
                holds.0.lock().unwrap().push((from, until, token));
            }
            release((quorum, timing), round, owner).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..80))).await;
    }
    Ok(())
}

/// Holds it until then, or until it is lost, and extends it meanwhile; returns to when the lease went.
async fn hold(
    (quorum, timing): (Quorum, Timing),
    owner: u64,
    mut deadline: Moment,
    until: Moment,
) -> Moment {
    let clock = clock();
    loop {
        let next = clock.now().after(EXPIRY / 3).min(until).min(deadline);
        tokio::time::sleep(next.since(clock.now())).await;
        if clock.now() >= until || clock.now() >= deadline {
            return deadline;
        }
        match renew(quorum, timing, owner).await {
            // Too late changes nothing.
            Renewed::Extended(lease) if clock.now() < deadline => deadline = lease.deadline(),
            Renewed::Extended(_) | Renewed::Unknown => {}
            Renewed::Refused => return deadline,
        }
    }
}

async fn renew(quorum: Quorum, timing: Timing, owner: u64) -> Renewed {
    let mut renewal = Renewal::begin(quorum, timing, clock().now());
    let mut answers = ask_each(renewal.pending().iter().map(|server| (server, [EXTEND, owner, 0])));
    let patience = tokio::time::sleep(renewal.wake_at().since(clock().now()));
    tokio::pin!(patience);
    loop {
        let renewed = tokio::select! {
            Some((server, reply)) = answers.recv() => {
                let answer = match reply {
                    Ok([DONE, _]) => Answer::Yes,
                    Ok(_) => Answer::No,
                    Err(_) => Answer::Unknown,
                };
                renewal.on_answer(server, answer)
            }
            () = &mut patience => renewal.on_tick(clock().now().max(renewal.wake_at())),
        };
        if let Some(renewed) = renewed {
            return renewed;
        }
    }
}

/// Ends a hold; waits a little for the servers that confirm it.
async fn release((quorum, timing): (Quorum, Timing), mut round: Round, owner: u64) {
    let servers = round.end(RoundEnd::Whole);
    undo((quorum, timing), round, servers, owner).await;
}

/// Undoes a round. It goes on in the background until every server has confirmed it, or what it may
/// have there has run out; this waits a little.
async fn undo(
    (quorum, timing): (Quorum, Timing),
    mut round: Round,
    servers: ServerSet,
    owner: u64,
) {
    let mut release = QuorumRelease::of(quorum, timing, servers, round.unanswered());
    let all = tokio::spawn(async move {
        let (mut due, mut link, mut result) = (servers, 1_000, None);
        while !due.is_empty() {
            link += 1;
            let mut asks = Vec::new();
            for server in due.iter() {
                // Each request is on a connection of its own, so one that is late may come after it.
                match round.on_link(LinkEvent::Undo(server, LinkId(link))) {
                    Some(LinkCommand::Undo { tombstone }) => {
                        asks.push((server, [UNDO, owner, u64::from(tombstone)]));
                    }
                    Some(LinkCommand::Ask) | None => panic!("it is over"),
                }
            }
            let mut answers = ask_each(asks.into_iter());
            due = ServerSet::NONE;
            while let Some((server, reply)) = answers.recv().await {
                let event = match reply {
                    Ok([DONE, _]) => ReleaseEvent::Undone(server),
                    Ok(_) => ReleaseEvent::HadNone(server),
                    Err(_) => ReleaseEvent::Failed(server),
                };
                for command in release.on(clock().now(), event) {
                    match command {
                        ReleaseCommand::UndoLater(server, until) if clock().now() < until => {
                            due.insert(server);
                        }
                        // What it may have there has run out.
                        ReleaseCommand::UndoLater(_, until) => assert!(clock().now() >= until),
                        ReleaseCommand::Resolve(undone) => {
                            assert_eq!(result.replace(undone), None, "it comes once");
                        }
                    }
                }
            }
            tokio::time::sleep(EXPIRY / 8).await;
        }
    });
    let _ = tokio::time::timeout(EXPIRY / 4, all).await;
}

async fn round(quorum: Quorum, timing: Timing, owner: u64) -> (Verdict, Round) {
    let clock = clock();
    let mut round = Round::new(quorum, timing);
    let (mut asks, mut wakes) = (Vec::new(), clock.now());
    let mut answers = None;
    let mut event = RoundEvent::Begin(quorum.all());
    loop {
        let (mut verdict, mut undone) = (None, ServerSet::NONE);
        for command in round.on(clock.now(), event) {
            match command {
                RoundCommand::Ask(server) => {
                    let asked = round.on_link(LinkEvent::Ask(server, LinkId(0)));
                    assert_eq!(asked, Some(LinkCommand::Ask));
                    asks.push((server, [ACQUIRE, owner, 0]));
                }
                RoundCommand::WakeAt(at) => wakes = at,
                RoundCommand::Resolve(resolved) => verdict = Some(resolved),
                RoundCommand::Undo(server) => drop(undone.insert(server)),
            }
        }
        if let Some(verdict) = verdict {
            if !matches!(verdict, Verdict::Granted(_)) {
                undo((quorum, timing), round.clone(), undone, owner).await;
            }
            return (verdict, round);
        }
        let answers =
            answers.get_or_insert_with(|| ask_each(std::mem::take(&mut asks).into_iter()));
        event = tokio::select! {
            Some((server, reply)) = answers.recv() => {
                let effect = match reply {
                    Ok([DONE, _]) => Some(Effect::MayHaveVoted),
                    Ok(_) => Some(Effect::NoVote),
                    Err(_) => None,
                };
                if let Some(effect) = effect {
                    round.on_link(LinkEvent::Answered(server, LinkId(0), effect));
                }
                match reply {
                    Ok([DONE, _]) => RoundEvent::Granted(server),
                    Ok([OTHER, holder]) => RoundEvent::Refused(server, OwnerId(holder)),
                    _ => RoundEvent::Unknown(server),
                }
            }
            () = tokio::time::sleep(wakes.since(clock.now())) => RoundEvent::Tick,
        };
    }
}

async fn draw(quorum: Quorum, timing: Timing, owner: u64) -> Option<u64> {
    let (mut drawing, mut commands) = Drawing::begin(quorum);
    loop {
        let asked: BTreeMap<ServerId, Request> = commands
            .iter()
            .filter_map(|command| match command {
                DrawingCommand::Step(server) => Some((*server, [STEP, owner, 0])),
                DrawingCommand::Raise(server, number) => Some((*server, [RAISE, owner, *number])),
                _ => None,
            })
            .collect();
        match commands[0] {
            DrawingCommand::Drawn(number) => return Some(number),
            DrawingCommand::Gone | DrawingCommand::TooFew => return None,
            DrawingCommand::Step(_) | DrawingCommand::Raise(..) => {}
        }
        let is_step = matches!(commands[0], DrawingCommand::Step(_));
        let mut answers = ask_each(asked.into_iter());
        let patience = tokio::time::sleep(timing.patience);
        tokio::pin!(patience);
        commands = loop {
            let next = tokio::select! {
                Some((server, reply)) = answers.recv() => match reply {
                    Ok([DONE, number]) if is_step => drawing.on_step(server, Some(number)),
                    Ok([DONE, _]) => drawing.on_raise(server, Raised::Yes),
                    Ok([BEHIND, _]) => drawing.on_raise(server, Raised::Behind),
                    Ok(_) if is_step => drawing.on_step(server, None),
                    Ok(_) => drawing.on_raise(server, Raised::NotOwner),
                    Err(_) => drawing.on_unknown(server),
                },
                () = &mut patience => drawing.on_patience_over(),
            };
            if !next.is_empty() {
                break next;
            }
        };
    }
}
