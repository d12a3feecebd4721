//! Connections to the server.

mod endpoint;
mod failure;
mod parameters;
mod stream;
mod target;
mod tls;

pub use failure::{NoEncryption, NotConnected, WrongAttributes};
pub(crate) use target::Target;
