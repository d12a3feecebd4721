//! The whole suite on the in-memory backend.

use std::time::Duration;

use distributed_lock_core::memory::{
    Behaviour, MemoryLockProvider, MemoryLockProviderBuilder, MemoryStore,
};
use distributed_lock_testkit::{Backend, HoldLimit, Limits, Loses, conformance};

conformance!(lasting: Memory::lasting(),
    with readers_writer, with semaphore, with fencing, with loss);
conformance!(leased: Memory::leased(),
    with readers_writer, with semaphore, with fencing, with leases, with limits, with loss);
conformance!(late: Memory::late(), with semaphore, with fencing, with loss);

/// A store in this process, a new one for each case.
#[derive(Default)]
struct Memory {
    store: MemoryStore,
    lease: Option<Duration>,
}

impl Memory {
    fn lasting() -> Self {
        Self::default()
    }

    /// Long enough for a busy machine, short enough to wait for.
    fn leased() -> Self {
        Self { lease: Some(Duration::from_secs(1)), ..Self::default() }
    }

    /// Every request takes effect before its answer arrives, so that there is something to drop;
    /// how long after is up to the timer.
    fn late() -> Self {
        let memory = Self::default();
        memory.store.behave(Behaviour::AnswerLate(Duration::from_nanos(1)));
        memory
    }

    fn builder(&self) -> MemoryLockProviderBuilder {
        let builder = MemoryLockProvider::builder().store(self.store.clone());
        match self.lease {
            Some(lease) => builder.lease(lease),
            None => builder,
        }
    }
}

impl Backend for Memory {
    type Provider = MemoryLockProvider;

    async fn connect(&self) -> MemoryLockProvider {
        self.builder().build()
    }
}

impl Limits for Memory {
    async fn connect_limited(&self, limit: HoldLimit) -> MemoryLockProvider {
        match limit {
            HoldLimit::MaxHold(most) => self.builder().max_hold(most).build(),
            HoldLimit::NoExtension => self.builder().auto_extend(false).build(),
        }
    }
}

impl Loses for Memory {
    async fn lose(&self, name: &str, _native_key: &str) {
        self.store.lose(name);
    }
}
