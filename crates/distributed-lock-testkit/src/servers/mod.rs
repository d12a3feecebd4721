//! Private servers: started for a test from the installed programs, and ended with it.
//!
//! ```no_run
//! use distributed_lock_testkit::servers::{PostgresServer, RedisServer};
//!
//! // One for the whole test process: every test uses names of its own.
//! let url = PostgresServer::shared().url();
//!
//! // One for a test that breaks it.
//! let redis = RedisServer::start(&["--appendonly", "yes"]);
//! redis.kill();
//! redis.restart();
//! ```
//!
//! Each has a free port on the loopback interface and a directory of its own, and runs as an
//! ordinary user if the tests run as root. It is there when it *answers*, not when its port is
//! open. It ends when its value is dropped and when the test process ends, however that happens:
//! nothing is left, neither processes nor files.
//!
//! Everything here blocks, for milliseconds, and needs no runtime. A server that cannot be started
//! is a panic: no test is skipped for want of it.

mod account;
mod cache;
mod certificates;
mod clock_shift;
mod daemon;
mod home;
mod pgbouncer;
pub(crate) mod port;
mod postgres;
mod postgres_template;
mod processes;
mod redis;
pub(crate) mod soon;

pub use self::clock_shift::{ClockShift, Toward};
pub use self::pgbouncer::{Pgbouncer, PoolMode};
pub use self::postgres::{PASSWORD, PostgresBuilder, PostgresServer};
pub use self::redis::{RedisBuilder, RedisServer};
pub use rustix::process::Signal;
