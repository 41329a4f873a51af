//! How much and how often is answered: what comes may be played again by a stranger, at any rate and
//! as if it came from any address.
//!
//! Where nobody has shown yet that it gets what is sent there, at most three times as many bytes go
//! as came from there. Who would get more is asked first, with a number; it gets the rest when it
//! repeats that.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::{NodeId, Time};
use crate::wire::datagram::sent_bytes;

/// How many times what came goes at the most where nobody has shown that it arrives.
const TIMES_WHAT_CAME: usize = 3;

/// How long an answer is kept in mind.
const GAP: Duration = Duration::from_millis(100);
/// So many are kept in mind. With more the oldest are forgotten, and each address that somebody
/// plays things again for gets a small part of what that one sends.
const KEPT: usize = 256;

/// How often what is short is answered meanwhile: an answer may be lost, and who asks does so again
/// at once when it hears more of the other.
const TRIES: usize = 4;

/// Within the time that an answer is kept in mind, no more records go to an address once so many bytes
/// of them did. What is left out is found missing in the next round again.
pub(super) const MOST_BYTES: usize = 256 << 10;

/// What was answered a moment ago.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// With a welcome: who advertises this address.
    pub welcomed: Recent<SocketAddr>,
    /// With a summary: who advertises this address.
    pub compared: Recent<SocketAddr>,
    /// With records: who advertises this address, and asked for these with this number.
    pub requested: Recent<(SocketAddr, u64, Vec<NodeId>), TRIES>,
    /// With a question: who asked for this node's record without being known.
    pub introduced: Recent<SocketAddr, TRIES>,
    /// With this node's record: who asked whether it is there, with this number, so that an old
    /// question keeps no answer from a later one.
    pub proven: Recent<(SocketAddr, u64), TRIES>,
    /// That its life is over: who called as this node, from there or, if it has left, whoever from.
    pub over: Recent<(SocketAddr, NodeId)>,
    /// How many bytes of records went to which address.
    records: VecDeque<(Time, SocketAddr, usize)>,
    /// How many bytes may go where the datagram at hand came from; `None` if that has shown that it
    /// gets them.
    left: Option<usize>,
}

impl Answers {
    /// A datagram with so long a payload is at hand.
    pub fn begin(&mut self, payload: usize) {
        self.left = Some(TIMES_WHAT_CAME * sent_bytes(payload));
    }

    /// Its sender repeats a number that this node has sent to where it is answered.
    pub fn is_sure(&mut self) {
        self.left = None;
    }

    /// Whether more records may go to this member.
    pub fn has_records_left(&mut self, now: Time, to: SocketAddr) -> bool {
        while self.records.front().is_some_and(|(at, ..)| now.since(*at) >= GAP) {
            self.records.pop_front();
        }
        let to_it = self.records.iter().filter(|(_, at, _)| *at == to);
        to_it.map(|(.., bytes)| bytes).sum::<usize>() < MOST_BYTES
    }

    pub fn sent_records(&mut self, now: Time, to: SocketAddr, bytes: usize) {
        if self.records.len() >= KEPT {
            self.records.pop_front();
        }
        self.records.push_back((now, to, bytes));
    }

    /// Whether it may be answered with so long a payload; if so that counts as sent.
    pub fn affords(&mut self, payload: usize) -> bool {
        let Some(left) = &mut self.left else { return true };
        let rest = left.checked_sub(sent_bytes(payload));
        *left = rest.unwrap_or(*left);
        rest.is_some()
    }
}

#[derive(Debug)]
pub(super) struct Recent<K, const TIMES: usize = 1>(VecDeque<(Time, K)>);

impl<K, const TIMES: usize> Default for Recent<K, TIMES> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<K: PartialEq, const TIMES: usize> Recent<K, TIMES> {
    /// Whether this may be answered now; if so it counts as answered.
    pub fn may(&mut self, now: Time, what: K) -> bool {
        while self.0.front().is_some_and(|(at, _)| now.since(*at) >= GAP) {
            self.0.pop_front();
        }
        if self.0.iter().filter(|(_, known)| *known == what).count() >= TIMES {
            return false;
        }
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back((now, what));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_in_mind_is_bounded_and_the_oldest_gives_way() {
        let mut recent = Recent::<usize>::default();
        for key in 0..10_000 {
            assert!(recent.may(Time::ZERO, key));
            assert!(recent.0.len() <= KEPT);
        }
        assert!(!recent.may(Time::ZERO, 9_999) && recent.may(Time::ZERO, 0));
        let later = Time::ZERO.plus(GAP);
        assert!(recent.may(later, 9_999) && recent.0.len() == 1);
    }
}
