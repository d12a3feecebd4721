//! Sessions with the server.
//!
//! A session *holds* or *waits*. One that holds carries any number of locks, each key once, and runs
//! only statements that cannot block; so ten thousand locks that were free need two connections. One
//! that waits holds nothing and runs one statement that blocks; what it wins stays on it, and it
//! holds from then on. If a session did both, the server would see deadlocks among tasks that have
//! nothing to do with each other, or miss real ones.
//!
//! Sessions are opened when they are needed, are never an application's, and are closed when they were
//! not needed for half a second, except for the last. A wait takes the last one, too; the session beside
//! it is opened seconds later, and only if there is room.

mod contradictions;
mod endpoint;
mod failure;
mod interruption;
mod limit;
mod link;
mod locking;
mod message_meter;
mod opening;
mod parameters;
mod pooler;
mod second_session;
mod server;
mod session;
mod sessions;
mod slot;
mod sql;
mod stream;
mod target;
mod tls;
mod unclosed;
mod usage;
mod wait_start;
mod waiting_turns;

pub use failure::{NoEncryption, NotConnected, WrongAttributes};
pub(crate) use interruption::interrupt;
pub(crate) use limit::within;
pub(crate) use locking::{LockEnd, Seen};
pub(crate) use server::check_server;
pub(crate) use session::{Registration, Session, SessionOptions, column};
pub(crate) use sessions::{Limits, Sessions};
pub(crate) use slot::{Borrowed, SessionSlot, WaitingSession};
pub(crate) use sql::{
    Call, FAIL, Form, SLEEP, Span, TRANSACTION_ID, cancel_wait_in, end_savepoint, holder, literal,
    next_of, try_in_savepoint,
};
pub(crate) use target::Target;
pub(crate) use wait_start::WaitStart;
pub(crate) use waiting_turns::{SteppingAside, turn_length};
