//! The core's local queue and claims, compiled against loom's mutexes and atomics instead of the
//! standard library's.
//!
//! The modules are the core's own files, so what is checked here is what runs. Each takes its threads'
//! tools from `crate::sync`, which is loom's here. What else they name is the core's, or, where it does
//! not matter for the order of events, a stand-in.
#![expect(dead_code, reason = "the scenarios use a part of each module")]

mod stand_ins;
pub mod sync;

pub(crate) mod clock {
    pub(crate) use distributed_lock_core::clock::Moment;
}

pub(crate) mod driver {
    pub(crate) trait ReportLoss: Send + Sync {
        fn report(&self, reason: String);
    }
}

pub(crate) mod instruments {
    pub(crate) use crate::stand_ins::Instruments;
}

pub(crate) mod lease {
    pub(crate) use distributed_lock_core::lease::LeaseEnd;
}

pub(crate) mod mode {
    pub(crate) use distributed_lock_core::Mode;
}

#[path = "../../distributed-lock-core/src/claim.rs"]
mod claim;
#[path = "../../distributed-lock-core/src/queue.rs"]
mod queue;

pub mod scenarios;
