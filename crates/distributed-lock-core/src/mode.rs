//! How a lock is asked for.

/// The one request type behind mutexes, reader-writer locks and semaphores.
///
/// [`Exclusive`](Self::Exclusive) and [`Shared`](Self::Shared) of a name exclude each other;
/// [`Permit`](Self::Permit) of the same name is a separate resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// A mutex, or the write side of a reader-writer lock: nobody else may hold.
    Exclusive,
    /// The read side of a reader-writer lock: other readers may hold, a writer may not.
    Shared,
    /// One of at most `max` permits of a semaphore.
    Permit {
        /// How many may be held at once. Callers should agree on it; if they differ, holders never
        /// exceed the largest in use.
        max: u32,
    },
}
