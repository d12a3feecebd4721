//! Faults at the driver's boundary: every call of the engine answered in every wrong way.
//!
//! [`FaultyDriver`] wraps a driver, counts its calls and spoils those that its [`Script`] names. The
//! functions here run an engine over it on a paused clock, so that they take no time and every bound
//! is exact. A backend calls each of them from one test:
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use distributed_lock_core::clock::Clock;
//! use distributed_lock_core::memory::{MemoryDriver, MemoryStore};
//! use distributed_lock_testkit::faults::{self, Store};
//!
//! #[derive(Default)]
//! struct Leases(MemoryStore);
//!
//! impl Store for Leases {
//!     type Driver = MemoryDriver;
//!
//!     fn driver(&self, clock: Arc<dyn Clock>) -> MemoryDriver {
//!         MemoryDriver::new(self.0.clone(), Some(Duration::from_secs(3)), clock)
//!     }
//!
//!     fn left(&self) -> usize {
//!         self.0.holds()
//!     }
//! }
//!
//! faults::waiting::attempts_while_waiting_are_counted(Leases::default);
//! ```

mod driver;
pub mod exhaustive;
pub mod late;
pub mod leases;
pub mod limits;
pub mod outages;
pub mod requests;
pub mod scoped;
mod script;
pub mod shutdown;
pub mod unreachable;
pub mod waiting;

use std::sync::Arc;
use std::time::Duration;

use distributed_lock_core::clock::{Clock, TokioClock};
use distributed_lock_core::driver::Driver;
use distributed_lock_core::{DriverProvider, Options};

pub use driver::FaultyDriver;
pub use script::{Call, Outcome, Script, When};

/// The data that drivers share: what survives them.
pub trait Store: Send + Sync + 'static {
    /// The driver under test.
    type Driver: Driver;

    /// One more driver over the same data; leases, if there are any, go by this clock.
    fn driver(&self, clock: Arc<dyn Clock>) -> Self::Driver;

    /// How many locks are held or waited for in the data.
    fn left(&self) -> usize;
}

/// The operation timeout of the providers here.
const OPERATION_TIMEOUT: Duration = Duration::from_millis(100);

/// What tokio's timers round to.
const TICK: Duration = Duration::from_millis(2);

type Faulty<S> = DriverProvider<FaultyDriver<<S as Store>::Driver>>;

/// A process over the store whose driver follows the script.
fn process<S: Store>(store: &S, script: &Script, clock: impl Clock + Clone) -> Faulty<S> {
    let driver = store.driver(Arc::new(clock.clone()));
    let options = Options::default().operation_timeout(OPERATION_TIMEOUT).clock(clock);
    DriverProvider::new(FaultyDriver::new(driver, script.clone()), options)
}

/// A process with a script of its own, and leases on tokio's clock.
fn scripted<S: Store>(store: &S, clock: TokioClock) -> (Faulty<S>, Script) {
    let script = Script::default();
    (process(store, &script, clock), script)
}
