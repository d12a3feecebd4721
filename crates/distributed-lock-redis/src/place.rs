//! What an attempt has at the server before it is granted.

use distributed_lock_core::clock::Moment;

use crate::link::Link;
use crate::mailbox::Letterbox;
use crate::several::QuorumPlace;

/// Which requests were made and not answered, and the place in the queue.
#[derive(Debug, Default)]
pub struct RedisPlace {
    unanswered: Unanswered,
    waiting: Option<Waiting>,
    /// What it has on several servers.
    pub(crate) on_each: QuorumPlace,
}

/// Where requests are that may still take effect.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Unanswered {
    #[default]
    Nowhere,
    /// All on this link, which keeps their order.
    On(u64),
    /// On several, or on one that is gone.
    Anywhere,
}

#[derive(Debug)]
struct Waiting {
    letterbox: Letterbox,
    /// The number that the server gave; zero before it has.
    place: u64,
    /// When the hold that it waits for runs out, if it is the first.
    runs_out: Option<Moment>,
}

impl RedisPlace {
    /// A request is about to leave on this link.
    pub(crate) fn asks_on(&mut self, link: &Link) {
        self.unanswered = match self.unanswered {
            Unanswered::Nowhere => Unanswered::On(link.number),
            Unanswered::On(number) if number == link.number => Unanswered::On(number),
            _ => Unanswered::Anywhere,
        };
    }

    /// The server has answered the last request, and with it all before on the same link. What it
    /// granted belongs to the grant, what it refused is nothing.
    pub(crate) fn is_answered(&mut self) {
        if let Unanswered::On(_) = self.unanswered {
            self.unanswered = Unanswered::Nowhere;
        }
    }

    /// From now on requests take a place in the queue.
    pub(crate) fn waits_with(&mut self, letterbox: Letterbox) {
        self.waiting = Some(Waiting { letterbox, place: 0, runs_out: None });
    }

    pub(crate) fn letterbox(&self) -> Option<&Letterbox> {
        self.waiting.as_ref().map(|waiting| &waiting.letterbox)
    }

    /// The place as the acquire script takes it.
    pub(crate) fn number(&self) -> String {
        self.waiting.as_ref().map(|waiting| waiting.place.to_string()).unwrap_or_default()
    }

    /// The server has put it at this place.
    pub(crate) fn stands_at(&mut self, place: u64, runs_out: Option<Moment>) {
        if let Some(waiting) = &mut self.waiting {
            (waiting.place, waiting.runs_out) = (place, runs_out);
        }
    }

    /// When it should look again although nobody tells it to; said once.
    pub(crate) fn take_runs_out(&mut self) -> Option<Moment> {
        self.waiting.as_mut().and_then(|waiting| waiting.runs_out.take())
    }

    /// Whether there is something at the server, or may be.
    pub(crate) fn has_something(&self) -> bool {
        self.waiting.is_some() || self.unanswered != Unanswered::Nowhere
    }

    /// Whether a request may come to the server after one that leaves on this link now.
    pub(crate) fn may_come_after(&self, link: &Link) -> bool {
        match self.unanswered {
            Unanswered::Nowhere => false,
            Unanswered::On(number) => number != link.number,
            Unanswered::Anywhere => true,
        }
    }
}
