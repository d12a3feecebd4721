//! Locks on PostgreSQL for [`distributed-lock`](https://docs.rs/distributed-lock).

pub mod connection;
mod error;
pub mod key;
