//! Servers by number, and sets of them.

/// One of the configured servers, by its place in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u8);

/// The servers of a provider: how many there are and how many are a majority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quorum {
    servers: u8,
    majority: u8,
}

impl Quorum {
    /// The most servers there may be.
    pub const MOST: u8 = 32;

    /// A majority of this many servers, at least 1 and at most [`MOST`](Self::MOST).
    #[must_use]
    pub fn of(servers: u8) -> Self {
        let servers = servers.clamp(1, Self::MOST);
        Self { servers, majority: servers / 2 + 1 }
    }

    /// Every server.
    #[must_use]
    pub fn all(self) -> ServerSet {
        (0..self.servers).map(ServerId).collect()
    }

    /// More than half of all servers, whether they can be reached or not.
    #[must_use]
    pub fn majority(self) -> usize {
        usize::from(self.majority)
    }

    /// Whether these are a majority.
    #[must_use]
    pub fn has(self, servers: ServerSet) -> bool {
        servers.len() >= self.majority()
    }

    /// A number of servers that passes for a majority and may be none: what a wrong implementation
    /// would count. For models.
    #[must_use]
    pub fn wrong(servers: u8, majority: u8) -> Self {
        Self { majority, ..Self::of(servers) }
    }
}

/// A set of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ServerSet(u32);

impl ServerSet {
    /// No server.
    pub const NONE: Self = Self(0);

    /// Adds a server; says whether it was not there yet.
    pub fn insert(&mut self, server: ServerId) -> bool {
        let was_there = self.contains(server);
        self.0 |= 1 << server.0;
        !was_there
    }

    /// Takes a server out.
    pub fn remove(&mut self, server: ServerId) {
        self.0 &= !(1 << server.0);
    }

    /// Whether a server is in it.
    #[must_use]
    pub fn contains(self, server: ServerId) -> bool {
        self.0 & (1 << server.0) != 0
    }

    /// How many there are.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of either set.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Those of both sets.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// Those that are not in the other set.
    #[must_use]
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Each of them, in the order of the configuration.
    pub fn iter(self) -> impl Iterator<Item = ServerId> {
        (0..Quorum::MOST).map(ServerId).filter(move |server| self.contains(*server))
    }
}

impl FromIterator<ServerId> for ServerSet {
    fn from_iter<I: IntoIterator<Item = ServerId>>(servers: I) -> Self {
        servers.into_iter().fold(Self::NONE, |mut set, server| {
            set.insert(server);
            set
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_more_than_half_of_all() {
        let majorities = [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (32, 17)];
        for (servers, majority) in majorities {
            let quorum = Quorum::of(servers);
            assert_eq!((quorum.all().len(), quorum.majority()), (usize::from(servers), majority));
        }
    }

    #[test]
    fn two_majorities_share_a_server() {
        for servers in 1..=7 {
            let quorum = Quorum::of(servers);
            let sets: Vec<_> = (0..1_u32 << servers).map(ServerSet).collect();
            for one in sets.iter().filter(|set| quorum.has(**set)) {
                for other in sets.iter().filter(|set| quorum.has(**set)) {
                    assert!(!one.and(*other).is_empty());
                }
            }
        }
    }
}
