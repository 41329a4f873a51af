//! How members meet: welcoming newcomers, going up, and what happens when two processes have one
//! name or address.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Member, MemberState, NodeRef, Time};

use super::messages::{
    self, Body, FLAG_CLAIM, FLAG_JOIN, FLAG_WELCOME, Numbers, Packer, RecordEntry, Sender,
};
use super::{MemberFault, MemberSink, Membership, Stage};

/// At least this long between two calls of a node at its own address, or for its place among the
/// members: whoever else is there answers with what it is called for.
const CALL_GAP: Duration = Duration::from_millis(200);
/// How many members a newcomer asks at a time whether they list it.
const PLACE_FAN_OUT: usize = 3;

impl Membership {
    /// Goes from joining to up when this node has met a member or may form a cluster alone, and
    /// enough members are in view.
    pub(super) fn go_up_if_ready(&mut self, now: Time, sink: &mut dyn MemberSink) {
        if self.state() != MemberState::Joining {
            return;
        }
        let met = self.directory.others().any(|entry| entry.record.member.reachable);
        let mut count = 0;
        let mut by_role: BTreeMap<&str, u32> = BTreeMap::new();
        for entry in self.directory.live() {
            let member = &entry.record.member;
            if member.reachable && member.state <= MemberState::Up {
                count += 1;
                for role in &member.roles {
                    *by_role.entry(role).or_default() += 1;
                }
            }
        }
        let roles_met = self
            .config
            .min_members_per_role
            .iter()
            .all(|(role, least)| by_role.get(role.as_str()).copied().unwrap_or(0) >= *least);
        if (self.may_form() || met) && count >= self.config.min_members && roles_met {
            self.directory.own_mut().member_mut().state = MemberState::Up;
            self.publish_own(now, sink);
        }
    }

    /// Tells a newcomer everything, with the number that it gave, and asks it to compare, in case it
    /// brings members along.
    pub(super) fn welcome(
        &mut self,
        to: SocketAddr,
        number: Option<u64>,
        sink: &mut dyn MemberSink,
    ) {
        let beliefs = self.swim.beliefs();
        let (flags, numbers) = (self.flags(FLAG_WELCOME), Numbers::answer(number));
        let emit = |datagram: &[u8]| sink.send(to, datagram);
        let mut packer = Packer::records(flags, numbers, self.sender(), emit);
        packer.record(self.directory.own(), self.own_belief());
        for entry in self.directory.others() {
            packer.record(&entry.record, beliefs.of(&entry.record.member));
        }
        packer.finish();
        sink.send(to, &messages::digest(self.sender(), self.digest()));
    }

    /// After a welcome: shows this node to everyone that it has just learned of, with a number by
    /// which it knows that what they ask is asked of it.
    pub(super) fn introduce(&self, now: Time, to: &[NodeRef], sink: &mut dyn MemberSink) {
        let known = to.iter().filter_map(|member| self.current(*member));
        known.for_each(|entry| self.call(now, 0, entry.record.member.address, sink));
    }

    /// Passes a refused record on to the holder of its name, who answers for itself: a holder that
    /// has just died must not stand in the way of its successor.
    pub(super) fn pass_claim(&mut self, entry: &RecordEntry, sink: &mut dyn MemberSink) {
        self.stats.names_refused += 1;
        if let Some(held) = self.directory.get(entry.record.member.id) {
            let (numbers, record) = (Numbers::default(), &entry.record);
            let claim = self.one_record(FLAG_CLAIM, numbers, record, entry.belief);
            sink.send(held.record.member.address, &claim);
        }
    }

    /// A datagram from a process with this node's name.
    pub(super) fn take_from_namesake(
        &mut self,
        now: Time,
        sender: Sender,
        body: Body,
        sink: &mut dyn MemberSink,
    ) {
        match body {
            // A datagram that was said to an earlier life, or is played again, ends nobody.
            Body::NameTaken { about, by, established } if about == self.me().incarnation => {
                self.contend(now, sender.member, by, established, sink);
            }
            Body::Records { entries, .. } => {
                let own = self.directory.own().member.address;
                let claim = |entry: &&RecordEntry| {
                    let member = &entry.record.member;
                    member.node_ref() == sender.member && member.address != own
                };
                if let Some(entry) = entries.iter().find(claim) {
                    self.answer_claim(&entry.record.member, sink);
                }
            }
            // An earlier life's late datagrams, or a namesake's that will be told.
            Body::Digest(_)
            | Body::Summary { .. }
            | Body::Request { .. }
            | Body::NameTaken { .. }
            | Body::AddressTaken { .. }
            | Body::Full { .. }
            | Body::Prove { .. }
            | Body::Unproven { .. }
            | Body::Hello { .. }
            | Body::Known { .. } => {}
        }
    }

    /// Whether a newcomer describes itself with the address of another member that answers. It is
    /// told so and not taken up: two processes of one address would take turns at being dead.
    pub(super) fn refuse_address(
        &self,
        from: SocketAddr,
        claimant: &Member,
        sink: &mut dyn MemberSink,
    ) -> bool {
        let holds = |entry: &&super::Entry| {
            let member = &entry.record.member;
            member.address == claimant.address && member.id != claimant.id && member.reachable
        };
        let Some(holder) = self.directory.live().find(holds) else { return false };
        let by = &holder.record.member.name;
        sink.send(from, &messages::address_taken(self.sender(), claimant.incarnation, by));
        true
    }

    /// Somebody says that this node's address is another member's. That one may just have died
    /// unnoticed, so this node ends only if it is still told so when that would be known.
    pub(super) fn address_is_taken(&mut self, now: Time, by: Arc<str>, sink: &mut dyn MemberSink) {
        // Whoever is there has it, whatever others say who claim it.
        if self.established || self.is_itself(self.own_address()) {
            return;
        }
        self.call_itself(now, sink);
        let since = *self.address_taken_since.get_or_insert(now);
        let noticed = 3 * self.config.probe_period_ms + 2 * self.config.suspect_ms;
        if now.since(since) >= Duration::from_millis(noticed) {
            let address = self.directory.own().member.address;
            self.end(now, MemberFault::AddressTaken { address, by }, sink);
        }
    }

    /// Sends to its own address. What comes back shows that it leads here.
    fn call_itself(&mut self, now: Time, sink: &mut dyn MemberSink) {
        if self.called_itself.is_none_or(|last| now.since(last) >= CALL_GAP) {
            self.called_itself = Some(now);
            self.call(now, 0, self.own_address(), sink);
        }
    }

    fn answer_claim(&mut self, claimant: &Member, sink: &mut dyn MemberSink) {
        let own = self.directory.own().member.address;
        let about = claimant.incarnation;
        let answer = messages::name_taken(self.sender(), about, own, self.established);
        sink.send(claimant.address, &answer);
    }

    /// Two live processes have one name; both decide alike who may keep it. A member keeps it
    /// against a newcomer. Of two newcomers the earlier keeps it. Of two members, whose clusters
    /// met only now or of whom one was replaced while it was away, the later does, as everywhere
    /// in the directory.
    fn contend(
        &mut self,
        now: Time,
        rival: NodeRef,
        by: SocketAddr,
        rival_established: bool,
        sink: &mut dyn MemberSink,
    ) {
        let own = &self.directory.own().member;
        if by == own.address {
            return;
        }
        let (ours, theirs) = ((own.incarnation, own.address), (rival.incarnation, by));
        let keep = match (self.established, rival_established) {
            (true, false) => true,
            (false, true) => false,
            (true, true) => ours > theirs,
            (false, false) => ours < theirs,
        };
        if keep {
            let own = own.address;
            let answer =
                messages::name_taken(self.sender(), rival.incarnation, own, self.established);
            sink.send(by, &answer);
        } else if self.established {
            self.end(now, MemberFault::Superseded { by, incarnation: rival.incarnation }, sink);
        } else if !self.asks_for_its_place(now, sink) {
            self.end(now, MemberFault::NameTaken { by }, sink);
        }
    }

    /// A newcomer is told that its name is another's. That one may have been away, and not know
    /// yet that the members have this node in its place, nor does this node before it is welcomed:
    /// it asks those whom it knows. False if there are none, or it is told so still when they would
    /// have answered: one that lists it with a welcome, one that does not by passing its claim on.
    fn asks_for_its_place(&mut self, now: Time, sink: &mut dyn MemberSink) -> bool {
        let known = self.reachable_addresses();
        let since = *self.name_taken_since.get_or_insert(now);
        let patience = Duration::from_millis(2 * self.config.sync_ms);
        if known.is_empty() || now.since(since) >= patience {
            return false;
        }
        if self.asked_for_place.is_none_or(|last| now.since(last) >= CALL_GAP) {
            self.asked_for_place = Some(now);
            let asked = self.pick(known, PLACE_FAN_OUT);
            asked.iter().for_each(|member| self.call(now, FLAG_JOIN, *member, sink));
        }
        true
    }

    /// Somebody else's copy of this node's own record, or of a namesake's.
    pub(super) fn own_record_seen(
        &mut self,
        now: Time,
        from: SocketAddr,
        flags: u8,
        entry: &RecordEntry,
        sink: &mut dyn MemberSink,
    ) {
        let own = self.directory.own();
        let (seen, version) = (&entry.record.member, entry.record.version);
        let elsewhere = seen.address != own.member.address;
        if flags & FLAG_CLAIM != 0 {
            if elsewhere {
                self.answer_claim(seen, sink);
            }
        } else if seen.incarnation > own.member.incarnation {
            let (by, incarnation) = (seen.address, seen.incarnation);
            self.end(now, MemberFault::Superseded { by, incarnation }, sink);
        } else if seen.incarnation < own.member.incarnation {
            let own = self.own_datagram(0, Numbers::default());
            // Else its sender finds it when both compare.
            if self.answers.affords(own.len()) {
                sink.send(from, &own);
            }
        } else if elsewhere {
            self.answer_claim(seen, sink);
        } else if seen.state == MemberState::Down {
            self.end(now, MemberFault::Removed, sink);
        } else {
            self.established = true;
            if own.is_outdone_by(&entry.record) && !self.outgrow(now, version, sink) {
                return;
            }
            let (address, member) = (seen.address, seen.node_ref());
            self.swim.believe(now, address, member, entry.belief, true, sink);
        }
    }

    /// Others hold a version of this node's record that it did not write in this form; it writes
    /// the next one. False if there is none, and this node has ended.
    pub(super) fn outgrow(&mut self, now: Time, version: u64, sink: &mut dyn MemberSink) -> bool {
        self.directory.own_mut().version = version;
        self.publish_own(now, sink);
        self.stage == Stage::Running
    }
}
