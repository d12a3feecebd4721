//! What is checked of the restart guard, and from where on.

/// The product's guard, or a known mistake around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GuardVariant {
    /// As it is.
    Right,
    /// Every server counts at once.
    NoGuard,
    /// A client takes it for known what it has only sent.
    TellingNotAwaited,
}

impl GuardVariant {
    /// In words.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Right => "the guard",
            Self::NoGuard => "no guard",
            Self::TellingNotAwaited => "a new group counted before it is written down",
        }
    }
}

/// What the servers know at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GuardStart {
    /// Nothing.
    New,
    /// Each other.
    Known,
}

impl GuardStart {
    /// How many steps of time there are. The members of a new group are told from each other's
    /// runs, not by time.
    pub(crate) fn ends(self) -> u8 {
        match self {
            Self::New => 0,
            Self::Known => 1,
        }
    }
}

impl std::fmt::Display for GuardStart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let group = match self {
            Self::New => "a new group",
            Self::Known => "a group that knows its members",
        };
        write!(f, "{group}: 3 servers, 1 restart, lease and guard 1 step, {} in all", self.ends())
    }
}
