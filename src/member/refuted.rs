//! Verdicts that count for nothing. A member that hears next to nothing comes to its verdict on one
//! who has contradicted, as everybody else knows. A suspicion has a counter, and so have the verdict
//! that ends it and the word that refutes it: where a later one of these is known, nobody takes the
//! verdict over. It stays true of whoever came to it, until the accused renews itself: so that one is
//! told. Who is dead contradicts nobody, and is given up no later for this.

use std::net::SocketAddr;

use foca::State;

use crate::base::{NodeRef, Time};

use super::belief::Belief;
use super::identity::{self, SwimId};
use super::reachability::Swim;
use super::{MemberSink, Membership};

impl Swim {
    /// What a message says, without verdicts that were refuted: the detector itself would take them.
    pub fn sift(&self, src: &SwimId, bytes: &[u8]) -> Option<Vec<u8>> {
        identity::sift(bytes, |said| {
            // Who goes says so itself.
            let goes = said.id() == src;
            said.state() != State::Down || goes || !self.is_refuted(said.id(), said.incarnation())
        })
    }

    fn is_refuted(&self, id: &SwimId, doubted: u16) -> bool {
        let mut members = self.members();
        members.any(|known| {
            known.id() == id && known.state() != State::Down && known.incarnation() > doubted
        })
    }

    fn has_refuted(&self, address: SocketAddr, member: NodeRef, belief: Belief) -> bool {
        let Belief::Down { renewal, doubted } = belief else { return false };
        self.is_refuted(&SwimId { address, member, renewal }, doubted)
    }
}

impl Membership {
    /// What somebody believes of another member.
    pub(super) fn take_belief(
        &mut self,
        now: Time,
        member: NodeRef,
        belief: Belief,
        sink: &mut dyn MemberSink,
    ) {
        let Some(held) = self.current(member) else { return };
        let address = held.record.member.address;
        if self.swim.has_refuted(address, member, belief) {
            self.remark(held, belief, &[address], sink);
        } else {
            self.swim.believe(now, address, member, belief, true, sink);
        }
    }
}
