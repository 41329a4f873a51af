//! What the outboxes of one worker may take together, reckoned by the memory of their chunks, used
//! or not. Plain counters: only the worker touches them, and only when a chunk comes or goes.
//!
//! **Who has most is refused first.** An outbox counts as full when it holds as much as is left.
//! One slow peer can take half of the purse so, two a third each, and whoever begins to send finds
//! room. A small share is there in any case, for peers whose number is known: the links of members.

use crate::wire::CHUNK_BYTES;

/// What every outbox but a client's may hold however little is left.
pub const SHARE_BYTES: usize = CHUNK_BYTES / 4;

/// On whose account an outbox holds frames. What one of them takes is missed by no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// This node's own messages, to its peers and to itself.
    Requests,
    /// Replies to members, and acknowledgements.
    Replies,
    /// The same to whoever is no member.
    Clients,
}

impl Account {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Requests, Self::Replies, Self::Clients];
}

/// One account.
#[derive(Clone, Copy, Debug)]
struct Purse {
    taken: usize,
    most: usize,
    share: usize,
}

/// The accounts of a worker.
#[derive(Debug)]
pub struct Purses([Purse; 3]);

impl Purses {
    /// With so many bytes for requests; replies have the half of it, those to clients a quarter.
    pub fn new(bytes: usize) -> Self {
        let purse = |most, share| Purse { taken: 0, most, share };
        Self([purse(bytes, SHARE_BYTES), purse(bytes / 2, SHARE_BYTES), purse(bytes / 4, 0)])
    }

    /// What is taken of an account, and what it has in all.
    pub fn state(&self, account: Account) -> (usize, usize) {
        let purse = self.0[account as usize];
        (purse.taken, purse.most)
    }

    /// What an outbox of an account may hold however little is left.
    pub fn share(&self, account: Account) -> usize {
        self.0[account as usize].share
    }

    #[inline]
    pub(super) fn take(&mut self, account: Account, bytes: usize) {
        self.0[account as usize].taken += bytes;
    }

    #[inline]
    pub(super) fn give(&mut self, account: Account, bytes: usize) {
        let purse = &mut self.0[account as usize];
        debug_assert!(purse.taken >= bytes, "more is given back than was taken");
        purse.taken = purse.taken.saturating_sub(bytes);
    }

    /// How much an outbox may hold at the moment.
    #[inline]
    pub(super) fn allows(&self, account: Account) -> usize {
        let purse = self.0[account as usize];
        purse.most.saturating_sub(purse.taken).max(purse.share)
    }

    /// Whether chunks should be no larger than needed.
    #[inline]
    pub(super) fn is_tight(&self, account: Account) -> bool {
        let purse = self.0[account as usize];
        purse.taken > purse.most / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_most_is_refused_first_and_the_next_finds_room() {
        let mut purses = Purses::new(1 << 20);
        let mut held = Vec::new();
        for _ in 0..4 {
            let mut mine = 0;
            while mine < purses.allows(Account::Requests) {
                purses.take(Account::Requests, 1 << 10);
                mine += 1 << 10;
            }
            held.push(mine >> 10);
        }
        assert_eq!(held, [512, 256, 128, 64]);
        for _ in 0..100 {
            purses.take(Account::Requests, 16 << 10);
        }
        assert_eq!(purses.allows(Account::Requests), SHARE_BYTES, "a member's share");
        assert_eq!(purses.allows(Account::Replies), 512 << 10, "another account");
        purses.take(Account::Clients, 256 << 10);
        assert_eq!(purses.allows(Account::Clients), 0);
    }
}
