//! Locks on a private PostgreSQL server.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests")]

use std::time::Duration;

use distributed_lock_postgres::{PostgresLockProvider, PostgresLockProviderBuilder};
use distributed_lock_testkit::servers::PostgresServer;

mod abandoned;
mod attempts;
mod cancelled;
mod chaos;
mod conformance;
mod crossed;
mod ended_sessions;
mod full_server;
mod harmless;
mod hostile_twins;
mod least_privileges;
mod left_behind;
mod lending;
mod links;
mod many_locks;
mod modes;
mod observer;
mod options;
mod partition;
mod passing;
mod pooler;
mod processes;
mod python;
mod queue;
mod refusals;
mod resources;
mod same_process;
mod secrets;
mod server_clock;
mod server_settings;
mod silent_server;
mod statements;
mod stopped_waiters;
mod stress;
mod transaction;
mod undriven;
mod worker;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn builder(server: &PostgresServer) -> PostgresLockProviderBuilder {
    PostgresLockProvider::builder().connection_string(server.url())
}

/// One more "process" with default options.
async fn provider(server: &PostgresServer) -> PostgresLockProvider {
    builder(server).build().await.unwrap()
}
