//! What an attempt has at the server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use distributed_lock_core::error::LockResult;

use crate::connection::{Sessions, WaitStart, WaitingSession, turn_length};
use crate::driver::Locked;
use crate::in_flight::InFlight;
use crate::waiter::Waiter;

/// A request for a lock, on its way to its answer.
pub(crate) type Request = InFlight<LockResult<Answer>>;

/// What a request has brought.
pub(crate) enum Answer {
    Granted(Locked),
    /// Others hold it, or come first.
    Refused,
    /// What it was about has changed meanwhile.
    AskAgain,
}

impl Answer {
    pub(crate) fn of<T>(granted: Option<T>, locked: impl FnOnce(T) -> Locked) -> Self {
        granted.map_or(Self::Refused, |granted| Self::Granted(locked(granted)))
    }
}

/// What an attempt has at the server: one thing at a time, which is answered, adopted or undone
/// before the next begins. So an attempt never waits for what it has already, and nothing that it
/// has sent is forgotten.
#[derive(Default)]
pub struct PostgresPlace {
    state: State,
    /// How far it is on its way to a session to wait with.
    start: Option<WaitStart>,
    /// How often it has given up such a session for another wait.
    stepped_aside: u32,
}

#[derive(Default)]
enum State {
    #[default]
    Nothing,
    /// A request was sent. Its answer is this attempt's, however late it comes.
    Asked(Request),
    Waits(Box<Waiter>),
    /// A lock that came too late, to be released.
    Unwanted(Locked),
}

impl PostgresPlace {
    /// Whether it has anything at the server.
    pub(crate) fn is_something(&self) -> bool {
        !matches!(self.state, State::Nothing)
    }

    /// What the wait or the request under way has brought by now, or else what a new request brings.
    /// `ask` sends it, unless this process alone makes it pointless.
    pub(crate) async fn try_once<F>(&mut self, ask: impl Fn() -> F) -> LockResult<Option<Locked>>
    where
        F: Future<Output = LockResult<Option<Request>>>,
    {
        loop {
            match &mut self.state {
                State::Nothing => match ask().await? {
                    Some(request) => self.state = State::Asked(request),
                    None => return Ok(None),
                },
                State::Asked(_) => match self.answer().await? {
                    Answer::Granted(locked) => return Ok(Some(locked)),
                    Answer::Refused => return Ok(None),
                    Answer::AskAgain => {}
                },
                // In the queue it would be refused by the server: others are before it, or it is.
                State::Waits(waiter) => {
                    let looked = waiter.look().await;
                    if waiter.has_ended() {
                        self.stepped_aside += u32::from(waiter.has_stepped_aside());
                        self.state = State::Nothing;
                    }
                    return looked;
                }
                State::Unwanted(_) => self.undo().await?,
            }
        }
    }

    /// Completes with the lock, or without it when the wait was interrupted. What was asked before is
    /// answered first. `start` begins a wait with a session, which it keeps for so long while others have
    /// none.
    pub(crate) async fn wait(
        &mut self,
        sessions: &Arc<Sessions>,
        start: impl Fn(WaitingSession, Duration) -> Waiter,
    ) -> LockResult<Option<Locked>> {
        loop {
            match &mut self.state {
                State::Nothing => {
                    let turn = self.start.get_or_insert_with(|| sessions.start_wait());
                    let Some(session) = turn.session(sessions).await? else {
                        // The fallback period's tries are left.
                        return std::future::pending().await;
                    };
                    self.start = None;
                    let waiter = start(session, turn_length(self.stepped_aside));
                    self.state = State::Waits(Box::new(waiter));
                }
                State::Asked(_) => {
                    if let Answer::Granted(locked) = self.answer().await? {
                        return Ok(Some(locked));
                    }
                }
                State::Waits(waiter) => {
                    let granted = waiter.granted().await;
                    self.state = State::Nothing;
                    return granted;
                }
                State::Unwanted(_) => self.undo().await?,
            }
        }
    }

    /// Leaves nothing at the server. May be dropped and called again, from another runtime too.
    pub(crate) async fn undo(&mut self) -> LockResult<()> {
        self.start = None;
        loop {
            let granted = match &mut self.state {
                State::Nothing => return Ok(()),
                // Nothing is held after an error.
                State::Asked(_) => match self.answer().await {
                    Ok(Answer::Granted(locked)) => Some(locked),
                    Ok(Answer::Refused | Answer::AskAgain) | Err(_) => None,
                },
                State::Waits(waiter) => waiter.cancel().await?,
                State::Unwanted(locked) => {
                    locked.release().await?;
                    None
                }
            };
            self.state = granted.map_or(State::Nothing, State::Unwanted);
        }
    }

    async fn answer(&mut self) -> LockResult<Answer> {
        let State::Asked(request) = &self.state else { return Ok(Answer::AskAgain) };
        let answer = request.answer().await;
        self.state = State::Nothing;
        answer
    }
}

impl fmt::Debug for PostgresPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Nothing => "Nothing",
            State::Asked(_) => "Asked",
            State::Waits(_) => "Waits",
            State::Unwanted(_) => "Unwanted",
        };
        f.debug_tuple("PostgresPlace").field(&state).finish()
    }
}
