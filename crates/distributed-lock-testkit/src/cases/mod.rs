//! The cases, by theme. Each takes a backend, and panics if a promise is broken.

pub mod bare_runtimes;
pub mod blocking;
pub mod cancellation;
pub mod composite;
pub mod drops;
pub mod exclusion;
pub mod extremes;
pub mod fencing;
pub mod guarding;
pub mod leases;
pub mod left_alone;
pub mod limits;
pub mod loss;
pub mod order;
pub mod readers_left_alone;
pub mod readers_writer;
pub mod release;
pub mod scoped;
pub mod scoped_loss;
pub mod second_runtime;
pub mod semaphore;
pub mod shutdown;
pub mod telemetry;
pub mod telemetry_of_leases;
pub mod telemetry_of_loss;
pub mod waiting;

use distributed_lock_core::traits::{DistributedLock, LockProvider};

use crate::backend::Backend;
use crate::verdicts::unique_name;

/// What a process holds.
type Held<P> = <<P as LockProvider>::Lock as DistributedLock>::Handle;

/// Two processes over the same data, and a name that only they use.
async fn two_processes<B: Backend>(backend: &B, case: &str) -> (B::Provider, B::Provider, String) {
    (backend.connect().await, backend.connect().await, unique_name(case))
}
