//! What one session is used for, as one value.

use super::sql::Span;

/// A session is shared by locks and by statements that neither block nor lock, or it belongs to one
/// owner, who may wait with it. It never changes from one to the other while it is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    Shared { locks: usize, borrowed: usize },
    Owned,
}

/// How many locks one session may have, and in which scope.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) span: Span,
    pub(super) locks: usize,
}

impl Room {
    /// In transactions a session has room for one lock, or for statements beside all locks: those
    /// would run, and end, in the transaction of the lock.
    fn is_shared_by_both(self) -> bool {
        self.span == Span::Session
    }
}

impl Usage {
    pub(super) const IDLE: Self = Self::Shared { locks: 0, borrowed: 0 };

    /// Locks that it has.
    pub(super) fn locks(self) -> usize {
        match self {
            Self::Shared { locks, .. } => locks,
            Self::Owned => 0,
        }
    }

    /// One more lock, if there is room.
    pub(super) fn add_lock(&mut self, room: Room) -> bool {
        match self {
            Self::Shared { locks, borrowed }
                if *locks < room.locks && (room.is_shared_by_both() || *borrowed == 0) =>
            {
                *locks += 1;
                true
            }
            _ => false,
        }
    }

    /// One more use for a statement that neither blocks nor locks.
    pub(super) fn borrow(&mut self, room: Room) -> bool {
        match self {
            Self::Shared { locks, borrowed } if room.is_shared_by_both() || *locks == 0 => {
                *borrowed += 1;
                true
            }
            _ => false,
        }
    }

    /// It belongs to one owner from now on, if nobody uses it.
    pub(super) fn own(&mut self) -> bool {
        let is_idle = *self == Self::IDLE;
        if is_idle {
            *self = Self::Owned;
        }
        is_idle
    }

    pub(super) fn end_lock(&mut self) {
        if let Self::Shared { locks, .. } = self {
            *locks = locks.saturating_sub(1);
        }
    }

    pub(super) fn end_borrow(&mut self) {
        if let Self::Shared { borrowed, .. } = self {
            *borrowed = borrowed.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Room = Room { span: Span::Session, locks: 2 };
    const TRANSACTION: Room = Room { span: Span::Transaction, locks: 1 };

    #[test]
    fn a_session_in_use_cannot_be_owned_and_an_owned_one_cannot_be_used() {
        for room in [SESSION, TRANSACTION] {
            let mut usage = Usage::IDLE;
            assert!(usage.borrow(room) && !usage.own());
            usage.end_borrow();
            assert!(usage.add_lock(room) && !usage.own());
            usage.end_lock();
            assert!(usage.own() && !usage.own());
            assert!(!usage.borrow(room) && !usage.add_lock(room));
        }
    }

    #[test]
    fn a_session_has_no_more_locks_than_there_is_room_for() {
        let mut usage = Usage::IDLE;
        assert!(usage.add_lock(SESSION) && usage.add_lock(SESSION) && !usage.add_lock(SESSION));
        assert!(usage.borrow(SESSION));
    }

    #[test]
    fn a_transaction_with_a_lock_runs_nothing_else() {
        let mut usage = Usage::IDLE;
        assert!(usage.add_lock(TRANSACTION) && !usage.borrow(TRANSACTION));
        usage.end_lock();
        assert!(usage.borrow(TRANSACTION) && !usage.add_lock(TRANSACTION));
    }
}
