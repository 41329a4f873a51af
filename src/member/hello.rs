//! Which incarnation a node starts with: the greater of its clock and one above any that its seeds
//! have heard of, so that a clock that went back keeps no node out. Seeds are asked before
//! the node starts, for a short time; a node whose seeds do not answer goes by its clock.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::{Incarnation, NodeRef, Time};

use super::messages::{self, Body, Message, Sender};
use super::start::{usable, without_label};

/// How long seeds have to answer. One that runs does so within a round trip.
const PATIENCE: Duration = Duration::from_millis(120);
/// After which time they are asked once more.
const AGAIN: Duration = Duration::from_millis(40);

/// Asks the seeds. Its driver sends what [`Hello::to_send`] gives to each of [`Hello::seeds`], hands
/// answers to [`Hello::take`], and goes on once [`Hello::wait`] is `None`.
#[derive(Debug)]
pub struct Hello {
    seeds: Vec<SocketAddr>,
    me: NodeRef,
    nonce: u64,
    began: Time,
    sent: u32,
    /// Whose answers have come.
    answered: BTreeSet<SocketAddr>,
    /// Somebody has heard of this node.
    is_known: bool,
}

impl Hello {
    /// `me` holds the incarnation that the clock says; `own` is this node's address, which is not
    /// asked. The nonce tells answers to this hello from replayed ones, and says how far above what
    /// others know the node begins.
    pub fn new(now: Time, me: NodeRef, own: SocketAddr, seeds: &[SocketAddr], nonce: u64) -> Self {
        // Once each: it is waited for as many answers as there are seeds.
        let own = without_label(own);
        let seeds = usable(seeds.iter().copied().filter(|seed| without_label(*seed) != own));
        Self { seeds, me, nonce, began: now, sent: 0, answered: BTreeSet::new(), is_known: false }
    }

    /// Whom to ask.
    pub fn seeds(&self) -> &[SocketAddr] {
        &self.seeds
    }

    /// What to send to every seed now, if it is time to.
    pub fn to_send(&mut self, now: Time) -> Option<Vec<u8>> {
        if now.since(self.began) < AGAIN * self.sent || self.sent > 1 {
            return None;
        }
        self.sent += 1;
        Some(messages::hello(Sender { member: self.me, renewal: 0 }, self.nonce))
    }

    /// Takes an opened datagram; what is no answer is left aside.
    pub fn take(&mut self, from: SocketAddr, payload: &[u8]) {
        let Ok(Message { body: Body::Known { nonce, incarnation }, .. }) = Message::read(payload)
        else {
            return;
        };
        if nonce == self.nonce {
            if self.seeds.contains(&from) {
                self.answered.insert(from);
            }
            self.is_known |= incarnation > Incarnation(0);
            self.me.incarnation = self.me.incarnation.max(incarnation.above(self.nonce));
        }
    }

    /// How long to wait for the next datagram; `None` when it is over. The first answer of one that
    /// has heard of this node is enough: seeds compare what they know all the time. One that has not
    /// may have started a moment ago.
    pub fn wait(&self, now: Time) -> Option<Duration> {
        let end = if self.sent < 2 { AGAIN } else { PATIENCE };
        let left = end.saturating_sub(now.since(self.began));
        let all = self.answered.len() == self.seeds.len();
        let done = self.is_known || all || now.since(self.began) >= PATIENCE;
        (!done).then(|| left.max(Duration::from_millis(1)))
    }

    /// This life, with the incarnation to start with.
    pub fn me(&self) -> NodeRef {
        self.me
    }
}
