//! How members stay equal: changes are pushed to everyone and passed on a little, and random pairs
//! compare what they hold, so that whatever the network lost is found within a few rounds.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;
use xxhash_rust::xxh3::Xxh3;

use crate::base::{MemberState, NodeId, NodeRef, Time};

use super::belief::{Belief, Beliefs};
use super::door::Asked;
use super::messages::{self, FLAG_JOIN, Numbers, Packer, SummaryEntry};
use super::records::{Entry, Record, is_gone, state_byte};
use super::timer::TimerKind;
use super::{MemberFault, MemberSink, Membership, PUSH_GAP, Stage, schedule};

/// How many unreachable members are called per round.
const RECONTACT_FAN_OUT: usize = 3;
/// Up to here the detector's beliefs are looked up one by one, beyond they are sorted first.
const FEW: usize = 8;
/// How many bytes of records answer one datagram, and one record more. What is left out is found
/// missing in the next round again.
pub(super) const ANSWER_BYTES: usize = 64 << 10;
/// At least this long between two calls at all unreachable members.
const RECALL_GAP: Duration = Duration::from_millis(200);

impl Membership {
    pub(super) fn pick<T>(&mut self, mut from: Vec<T>, count: usize) -> Vec<T> {
        let count = count.min(from.len());
        for index in 0..count {
            let other = self.rng.random_range(index..from.len());
            from.swap(index, other);
        }
        from.truncate(count);
        from
    }

    /// One round of comparing with a random reachable member.
    pub(super) fn sync_tick(&mut self, now: Time, due: Time, sink: &mut dyn MemberSink) {
        self.look_after_tombstones(now, due);
        let reachable = self.reachable_addresses();
        if let [peer] = self.pick(reachable, 1)[..] {
            sink.send(peer, &messages::digest(self.sender(), self.digest()));
            // Nobody has been seen to list this node: whoever gets this answers with a list.
            if !self.established {
                self.call(now, FLAG_JOIN, peer, sink);
            }
            self.tell_of_tombstones(peer, sink);
        }
    }

    pub(super) fn reachable_addresses(&self) -> Vec<SocketAddr> {
        let others = self.directory.others().map(|entry| &entry.record.member);
        others.filter(|member| member.reachable).map(|member| member.address).collect()
    }

    fn belief(&self, entry: &Entry, beliefs: &Beliefs) -> Belief {
        if entry.record.member.id == self.me().node {
            self.own_belief()
        } else {
            beliefs.of(&entry.record.member)
        }
    }

    /// A hash over all that members must agree on: the records, by version, and who answers.
    /// Former members are left out, since nodes forget them at different times.
    pub(super) fn digest(&self) -> u64 {
        let mut hash = Xxh3::new();
        for entry in self.summary() {
            hash.update(&entry.member.node.0.to_le_bytes());
            hash.update(&entry.member.incarnation.0.to_le_bytes());
            hash.update(&entry.version.to_le_bytes());
            let (belief, renewal) = match entry.belief {
                Belief::Unknown => (0, 0),
                Belief::Active { renewal, .. } => (1, renewal),
                Belief::Down { renewal, .. } => (2, renewal),
            };
            hash.update(&[state_byte(entry.state), belief]);
            hash.update(&u32::to_le_bytes(renewal));
        }
        hash.digest()
    }

    pub(super) fn summary(&self) -> Vec<SummaryEntry> {
        let beliefs = self.swim.beliefs();
        let live = self.directory.live();
        live.map(|entry| summary_entry(entry, self.belief(entry, &beliefs))).collect()
    }

    /// What a member believes of others, and of this node.
    pub(super) fn take_beliefs(
        &mut self,
        now: Time,
        entries: &[SummaryEntry],
        sink: &mut dyn MemberSink,
    ) {
        let me = self.me();
        for theirs in entries {
            if theirs.member == me {
                if theirs.state == MemberState::Down {
                    return self.end(now, MemberFault::Removed, sink);
                }
                self.established = true;
                if theirs.version > self.directory.own().version
                    && !self.outgrow(now, theirs.version, sink)
                {
                    return;
                }
                let address = self.directory.own().member.address;
                self.swim.believe(now, address, me, theirs.belief, true, sink);
            } else {
                self.take_belief(now, theirs.member, theirs.belief, sink);
            }
        }
    }

    /// Finds out who knows more about whom, sends what is newer here and asks for the rest.
    pub(super) fn compare(
        &mut self,
        now: Time,
        (peer, at): (NodeRef, SocketAddr),
        range: Option<(NodeId, NodeId)>,
        entries: &[SummaryEntry],
        sink: &mut dyn MemberSink,
    ) {
        let mut wanted = Vec::new();
        let mut given = Vec::new();
        let (has_room, has_free_room) = (self.directory.has_room(), self.directory.has_free_room());
        for theirs in entries {
            let node = theirs.member.node;
            let Some(held) = self.directory.get(node) else {
                // What finds no room would be asked for again in each round.
                let finds_room = if is_gone(theirs.state) { has_free_room } else { has_room };
                wanted.extend(finds_room.then_some(node));
                continue;
            };
            let rank = (held.node_ref().incarnation, held.record.rank());
            let their_down = theirs.state == MemberState::Down;
            match (theirs.member.incarnation, (their_down, theirs.version)).cmp(&rank) {
                std::cmp::Ordering::Greater => wanted.push(node),
                std::cmp::Ordering::Less => {
                    given.push(node);
                    // An earlier life, yet somebody finds that it answers and ours does not.
                    if !held.record.member.reachable && theirs.belief.is_active() {
                        wanted.push(node);
                    }
                }
                std::cmp::Ordering::Equal => {}
            }
        }
        if let Some((low, high)) = range {
            let listed: BTreeSet<NodeId> = entries.iter().map(|entry| entry.member.node).collect();
            let within = self.directory.live().map(|entry| entry.record.member.id);
            given.extend(
                within.filter(|node| (low..=high).contains(node) && !listed.contains(node)),
            );
        }
        self.answer(now, &given, None, at, sink);
        self.request(now, &wanted, (peer, at), sink);
    }

    /// Asks a member for records. What it says of others counts only as an answer.
    pub(super) fn request(
        &self,
        now: Time,
        nodes: &[NodeId],
        (peer, at): (NodeRef, SocketAddr),
        sink: &mut dyn MemberSink,
    ) {
        let number = self.door.number(now, Asked::Records(peer), at);
        let emit = |datagram: &[u8]| sink.send(at, datagram);
        let mut packer = Packer::requests(self.sender(), number, emit);
        nodes.iter().for_each(|node| packer.request(*node));
        packer.finish();
    }

    /// Sends a member as much of this as one datagram may cause, with the number of that if it asked.
    pub(super) fn answer(
        &mut self,
        now: Time,
        nodes: &[NodeId],
        number: Option<u64>,
        to: SocketAddr,
        sink: &mut dyn MemberSink,
    ) {
        if !nodes.is_empty() && self.answers.has_records_left(now, to) {
            let bytes = self.send_up_to(ANSWER_BYTES, nodes, number, &[to], sink);
            self.answers.sent_records(now, to, bytes);
        }
    }

    pub(super) fn send_records(
        &self,
        nodes: &[NodeId],
        to: &[SocketAddr],
        sink: &mut dyn MemberSink,
    ) {
        self.send_up_to(usize::MAX, nodes, None, to, sink);
    }

    /// Gives how many bytes of records each gets.
    fn send_up_to(
        &self,
        bytes: usize,
        nodes: &[NodeId],
        number: Option<u64>,
        to: &[SocketAddr],
        sink: &mut dyn MemberSink,
    ) -> usize {
        if nodes.is_empty() || to.is_empty() {
            return 0;
        }
        let emit = |datagram: &[u8]| to.iter().for_each(|to| sink.send(*to, datagram));
        let numbers = Numbers::answer(number);
        let mut packer = Packer::records(self.flags(0), numbers, self.sender(), emit);
        let beliefs = (nodes.len() >= FEW).then(|| self.swim.beliefs());
        let mut sent = 0;
        for entry in nodes.iter().filter_map(|node| self.directory.get(*node)) {
            if sent >= bytes {
                break;
            }
            let member = &entry.record.member;
            let belief = match &beliefs {
                Some(beliefs) => self.belief(entry, beliefs),
                None if member.id == self.me().node => self.own_belief(),
                None => self.swim.belief(member.address, member.node_ref()),
            };
            sent += packer.record(&entry.record, belief);
        }
        packer.finish();
        sent
    }

    /// Notes that the own record is another one; without a later version this node ends.
    pub(super) fn raise_own(&mut self, now: Time, sink: &mut dyn MemberSink) -> bool {
        let raised = self.directory.raise_own();
        if !raised {
            self.end(now, MemberFault::NothingLater { what: "version of the record" }, sink);
        }
        raised
    }

    pub(super) fn send_own(&self, to: &[SocketAddr], sink: &mut dyn MemberSink) {
        if self.stage == Stage::Ended || to.is_empty() {
            return;
        }
        let own = self.own_datagram(0, Numbers::default());
        to.iter().for_each(|to| sink.send(*to, &own));
    }

    pub(super) fn own_datagram(&self, flags: u8, numbers: Numbers) -> Vec<u8> {
        self.one_record(flags, numbers, self.directory.own(), self.own_belief())
    }

    /// A datagram with one record.
    pub(super) fn one_record(
        &self,
        flags: u8,
        numbers: Numbers,
        record: &Record,
        belief: Belief,
    ) -> Vec<u8> {
        let mut one = Vec::new();
        let emit = |datagram: &[u8]| one = datagram.to_vec();
        let mut packer = Packer::records(self.flags(flags), numbers, self.sender(), emit);
        packer.record(record, belief);
        packer.finish();
        one
    }

    /// Notes a change of the own record and sends it at once, or with the next ones if it follows
    /// closely on another.
    pub(super) fn publish_own(&mut self, now: Time, sink: &mut dyn MemberSink) {
        if !self.raise_own(now, sink) {
            return;
        }
        self.changed = true;
        if self.stage == Stage::Idle || self.push_pending {
            return;
        }
        match self.last_push {
            Some(last) if now.since(last) < PUSH_GAP => {
                self.push_pending = true;
                self.push_token = self.push_token.wrapping_add(1);
                schedule(now, PUSH_GAP, TimerKind::Push { token: self.push_token }, sink);
            }
            _ => self.push_own(now, sink),
        }
    }

    pub(super) fn push_own(&mut self, now: Time, sink: &mut dyn MemberSink) {
        self.last_push = Some(now);
        self.push_pending = false;
        self.push_token = self.push_token.wrapping_add(1);
        self.send_own(&self.reachable_addresses(), sink);
    }

    /// To every member, also to those that may not hear it.
    pub(super) fn push_own_everywhere(&mut self, sink: &mut dyn MemberSink) {
        let others = self.directory.others().map(|entry| entry.record.member.address);
        let to: Vec<SocketAddr> = others.collect();
        self.send_own(&to, sink);
    }

    /// Sends one record to every reachable member and to one more address.
    pub(super) fn spread_record(
        &mut self,
        node: NodeId,
        also: Option<SocketAddr>,
        sink: &mut dyn MemberSink,
    ) {
        let mut to = self.reachable_addresses();
        to.extend(also.filter(|address| !to.contains(address)));
        self.send_records(&[node], &to, sink);
    }

    pub(super) fn remark(
        &self,
        entry: &Entry,
        belief: Belief,
        to: &[SocketAddr],
        sink: &mut dyn MemberSink,
    ) {
        let about = [summary_entry(entry, belief)];
        let emit = |datagram: &[u8]| to.iter().for_each(|to| sink.send(*to, datagram));
        messages::remarks(self.sender(), &about, emit);
    }

    /// Tells unreachable members that they count as dead; who hears this renews itself. One that is
    /// only not known to be alive is asked, and its answer tells. What is the same for all is made
    /// once: there may be thousands of them.
    pub(super) fn call_unreachable(&self, entries: &[Entry], sink: &mut dyn MemberSink) {
        let beliefs = self.swim.beliefs();
        let mut question = None;
        for entry in entries {
            let member = &entry.record.member;
            let belief = beliefs.of(member);
            if belief == Belief::Unknown {
                let ask = || messages::digest(self.sender(), self.digest());
                sink.send(member.address, question.get_or_insert_with(ask));
            } else {
                self.remark(entry, belief, &[member.address], sink);
            }
        }
    }

    /// Asks these members: to some of them nothing else may be sent for long.
    pub fn ask(&self, members: &[NodeRef], sink: &mut dyn MemberSink) {
        for entry in members.iter().filter_map(|member| self.current(*member)) {
            let member = &entry.record.member;
            if member.reachable {
                sink.send(member.address, &messages::digest(self.sender(), self.digest()));
            } else {
                self.call_unreachable(std::slice::from_ref(entry), sink);
            }
        }
    }

    fn unreachable(&self) -> Vec<Entry> {
        self.directory.others().filter(|entry| !entry.record.member.reachable).cloned().collect()
    }

    /// Calls a few of the unreachable members.
    pub(super) fn recontact(&mut self, sink: &mut dyn MemberSink) {
        let unreachable = self.unreachable();
        let picked = self.pick(unreachable, RECONTACT_FAN_OUT);
        self.call_unreachable(&picked, sink);
    }

    /// Calls all unreachable members, because something suggests that a partition has healed.
    pub(super) fn recall_all(&mut self, now: Time, sink: &mut dyn MemberSink) {
        if self.last_recall.is_some_and(|last| now.since(last) < RECALL_GAP) {
            return;
        }
        self.last_recall = Some(now);
        self.call_unreachable(&self.unreachable(), sink);
    }
}

pub(super) fn summary_entry(entry: &Entry, belief: Belief) -> SummaryEntry {
    let member = entry.node_ref();
    let (version, state) = (entry.record.version, entry.record.member.state);
    SummaryEntry { member, version, state, belief }
}
