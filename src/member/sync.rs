//! How members stay equal: changes are pushed to everyone and passed on a little, and random pairs
//! compare what they hold, so that whatever the network lost is found within a few rounds.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;
use xxhash_rust::xxh3::Xxh3;

use crate::base::{MemberState, NodeId, NodeRef, Time};

use super::identity::SwimId;
use super::messages::{
    self, Body, FLAG_CLAIM, FLAG_JOIN, FLAG_WELCOME, Message, Packer, RecordEntry, Sender,
    SummaryEntry,
};
use super::reachability::{Belief, Beliefs};
use super::records::{Entry, Merge, state_byte};
use super::timer::TimerKind;
use super::{MemberError, MemberFault, MemberSink, Membership, PUSH_GAP, Stage, schedule};

/// To how many members a node passes on what it has just learned.
const FORWARD_FAN_OUT: usize = 3;
/// How many unreachable members are called per round.
const RECONTACT_FAN_OUT: usize = 3;
/// At least this long between two calls at all unreachable members.
const RECALL_GAP: Duration = Duration::from_millis(200);

impl Membership {
    /// A message of the failure detector, already checked.
    pub(super) fn take_swim(
        &mut self,
        now: Time,
        from: SocketAddr,
        src: SwimId,
        bytes: &[u8],
        sink: &mut dyn MemberSink,
    ) -> Result<(), MemberError> {
        if src.member.node == self.me().node {
            return Ok(());
        }
        match self.directory.get(src.member.node) {
            Some(held) if held.node_ref() == src.member && held.record.is_live() => {
                if held.record.member.address != src.address {
                    return Ok(());
                }
            }
            Some(held) if held.node_ref().incarnation >= src.member.incarnation => {
                self.tell_it_is_over(from, src.member, sink);
                return Ok(());
            }
            _ => self.request(&[src.member.node], from, sink),
        }
        if !self.swim.has_room() {
            let directory = &self.directory;
            let keep = |id: &SwimId| {
                let entry = directory.get(id.member.node);
                entry.is_some_and(|entry| entry.node_ref() == id.member && entry.record.is_live())
            };
            self.swim.forget_except(now, keep, sink);
        }
        self.swim.handle_data(now, bytes, sink);
        Ok(())
    }

    /// Any other message.
    pub(super) fn take_message(
        &mut self,
        now: Time,
        from: SocketAddr,
        message: Message,
        sink: &mut dyn MemberSink,
    ) -> Result<(), MemberError> {
        let Message { sender, mut body } = message;
        if sender.member.node == self.me().node {
            // Its own datagrams come back when a seed address leads to this very node.
            if sender.member != self.me() || matches!(body, Body::NameTaken { .. }) {
                self.take_from_namesake(sender, body, sink);
            }
            return Ok(());
        }
        let mut news = News::default();
        // The sender's own record comes first, since it decides whether the sender is a member.
        if let Body::Records { flags, entries } = &mut body {
            let own = |entry: &RecordEntry| entry.record.member.node_ref() == sender.member;
            if let Some(index) = entries.iter().position(own) {
                let entry = entries.remove(index);
                match self.take_record(now, from, *flags, &entry, &mut news, sink) {
                    Merge::Refused => return Ok(()),
                    Merge::Full => {
                        return Err(MemberError::DirectoryFull { limit: super::MAX_RECORDS });
                    }
                    _ => {}
                }
            }
        }
        match self.directory.get(sender.member.node) {
            Some(held) if held.node_ref() == sender.member && held.record.is_live() => {
                self.sender_is_alive(now, from, sender, sink);
            }
            Some(held) if held.node_ref().incarnation >= sender.member.incarnation => {
                self.tell_it_is_over(from, sender.member, sink);
                return Ok(());
            }
            _ => self.request(&[sender.member.node], from, sink),
        }
        match body {
            Body::Records { flags, entries } => {
                for entry in &entries {
                    self.take_record(now, from, flags, entry, &mut news, sink);
                    if self.stage != Stage::Running {
                        return Ok(());
                    }
                }
                self.after_records(from, sender, flags, news, sink);
            }
            Body::Digest(theirs) => {
                if theirs != self.digest() {
                    let entries = self.summary();
                    messages::complete(self.sender(), &entries, |out| sink.send(from, out));
                }
            }
            Body::Summary { complete, low, high, entries } => {
                let range = complete.then_some((low, high));
                self.compare(now, from, range, &entries, sink);
            }
            Body::Request(nodes) => self.send_records(&nodes, from, 0, sink),
            // Meant for a namesake of the sender, not for this node.
            Body::NameTaken { .. } => {}
        }
        Ok(())
    }

    /// The sender speaks, so it is alive; if its identity is known to be dead it must renew it,
    /// and is told so.
    fn sender_is_alive(
        &mut self,
        now: Time,
        from: SocketAddr,
        sender: Sender,
        sink: &mut dyn MemberSink,
    ) {
        let Some(entry) = self.current(sender.member) else { return };
        let address = entry.record.member.address;
        let belief = self.swim.belief(address, sender.member);
        match belief {
            Belief::Active { renewal, .. } if renewal >= sender.renewal => {}
            Belief::Down { renewal } if renewal >= sender.renewal => {
                let entry = entry.clone();
                self.remark(&entry, belief, &[from], sink);
            }
            _ => {
                let alive = Belief::Active { renewal: sender.renewal, refuted: 0 };
                self.swim.believe(now, address, sender.member, alive, true, sink);
            }
        }
    }

    /// Somebody who has been removed or replaced still speaks: it gets the record that says so.
    /// Who has left knows it.
    fn tell_it_is_over(&mut self, from: SocketAddr, member: NodeRef, sink: &mut dyn MemberSink) {
        let left = self.directory.get(member.node).is_some_and(|held| {
            held.node_ref() == member && held.record.member.state == MemberState::Left
        });
        if !left {
            self.send_records(&[member.node], from, 0, sink);
        }
    }

    fn take_record(
        &mut self,
        now: Time,
        from: SocketAddr,
        flags: u8,
        entry: &RecordEntry,
        news: &mut News,
        sink: &mut dyn MemberSink,
    ) -> Merge {
        let member = entry.record.member.node_ref();
        let address = entry.record.member.address;
        if member.node == self.me().node {
            self.own_record_seen(now, from, flags, entry, sink);
            return Merge::Same;
        }
        if flags & FLAG_CLAIM != 0 {
            // Meant for the holder of a name that this node does not have.
            return Merge::Same;
        }
        let active = match (entry.belief, self.swim.belief(address, member)) {
            (Belief::Active { renewal, .. }, Belief::Down { renewal: dead }) => renewal > dead,
            (belief, _) => belief.is_active(),
        };
        let verdict = self.directory.merge(now, entry.record.clone(), active);
        match verdict {
            Merge::Refused => self.pass_claim(entry, sink),
            Merge::Full => self.stats.directory_full += 1,
            Merge::Stale => news.outdated.push(member.node),
            Merge::Same => {}
            Merge::Added | Merge::Changed | Merge::Replaced => {
                self.changed = true;
                news.fresh.push(member);
                if !entry.record.is_live() {
                    self.swim.give_up(now, address, member, false, sink);
                }
            }
        }
        if let Some(held) = self.current(member)
            && held.record.member.address == address
        {
            self.swim.believe(now, address, member, entry.belief, true, sink);
        }
        verdict
    }

    fn after_records(
        &mut self,
        from: SocketAddr,
        sender: Sender,
        flags: u8,
        news: News,
        sink: &mut dyn MemberSink,
    ) {
        if !news.outdated.is_empty() {
            self.send_records(&news.outdated, from, 0, sink);
        }
        let welcomed = flags & FLAG_WELCOME != 0;
        if welcomed {
            if self.config.seeds.contains(&from) {
                self.seed_aliases.insert(from, sender.member.node);
            }
            self.introduce(&news.fresh, sink);
        }
        // A node that was alone has nobody to tell but those who told it.
        let known_to_all = welcomed && self.joined_alone;
        if !news.fresh.is_empty() && !known_to_all {
            self.forward(sender.member.node, &news.fresh, sink);
        }
        if flags & FLAG_JOIN != 0 {
            self.welcome(from, sink);
        }
    }

    /// Passes on what was news here, once, to a few members that are not part of the news.
    fn forward(&mut self, except: NodeId, fresh: &[NodeRef], sink: &mut dyn MemberSink) {
        let candidates: Vec<SocketAddr> = self
            .directory
            .others()
            .filter(|entry| entry.record.member.reachable)
            .filter(|entry| entry.record.member.id != except && !fresh.contains(&entry.node_ref()))
            .map(|entry| entry.record.member.address)
            .collect();
        let nodes: Vec<NodeId> = fresh.iter().map(|member| member.node).collect();
        for to in self.pick(candidates, FORWARD_FAN_OUT) {
            self.send_records(&nodes, to, 0, sink);
        }
    }

    fn pick<T>(&mut self, mut from: Vec<T>, count: usize) -> Vec<T> {
        let count = count.min(from.len());
        for index in 0..count {
            let other = self.rng.random_range(index..from.len());
            from.swap(index, other);
        }
        from.truncate(count);
        from
    }

    /// One round of comparing with a random reachable member.
    pub(super) fn sync_tick(&mut self, now: Time, sink: &mut dyn MemberSink) {
        let keep = Duration::from_millis(self.config.tombstone_ms);
        self.directory.expire(now, keep);
        let reachable = self.reachable_addresses();
        if let [peer] = self.pick(reachable, 1)[..] {
            sink.send(peer, &messages::digest(self.sender(), self.digest()));
        }
    }

    fn reachable_addresses(&self) -> Vec<SocketAddr> {
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
                Belief::Down { renewal } => (2, renewal),
            };
            hash.update(&[state_byte(entry.state), belief]);
            hash.update(&u32::to_le_bytes(renewal));
        }
        hash.digest()
    }

    fn summary(&self) -> Vec<SummaryEntry> {
        let beliefs = self.swim.beliefs();
        let live = self.directory.live();
        live.map(|entry| summary_entry(entry, self.belief(entry, &beliefs))).collect()
    }

    /// Finds out who knows more about whom, sends what is newer here and asks for the rest.
    fn compare(
        &mut self,
        now: Time,
        from: SocketAddr,
        range: Option<(NodeId, NodeId)>,
        entries: &[SummaryEntry],
        sink: &mut dyn MemberSink,
    ) {
        let mut wanted = Vec::new();
        let mut given = Vec::new();
        let me = self.me();
        for theirs in entries {
            let node = theirs.member.node;
            if theirs.member == me {
                if theirs.state == MemberState::Down {
                    return self.end(MemberFault::Removed, sink);
                }
                self.established = true;
                if theirs.version > self.directory.own().version {
                    self.outgrow(now, theirs.version, sink);
                }
                let address = self.directory.own().member.address;
                self.swim.believe(now, address, me, theirs.belief, true, sink);
            }
            let Some(held) = self.directory.get(node) else {
                wanted.push(node);
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
            if theirs.member != me && held.node_ref() == theirs.member && held.record.is_live() {
                let address = held.record.member.address;
                self.swim.believe(now, address, theirs.member, theirs.belief, true, sink);
            }
        }
        if let Some((low, high)) = range {
            let listed: BTreeSet<NodeId> = entries.iter().map(|entry| entry.member.node).collect();
            let within = self.directory.live().map(|entry| entry.record.member.id);
            given.extend(
                within.filter(|node| (low..=high).contains(node) && !listed.contains(node)),
            );
        }
        self.send_records(&given, from, 0, sink);
        self.request(&wanted, from, sink);
    }

    pub(super) fn request(&self, nodes: &[NodeId], to: SocketAddr, sink: &mut dyn MemberSink) {
        let mut packer = Packer::requests(self.sender(), |datagram| sink.send(to, datagram));
        nodes.iter().for_each(|node| packer.request(*node));
        packer.finish();
    }

    fn send_records(&self, nodes: &[NodeId], to: SocketAddr, flags: u8, sink: &mut dyn MemberSink) {
        if nodes.is_empty() {
            return;
        }
        let beliefs = self.swim.beliefs();
        let mut packer = Packer::records(flags, self.sender(), |datagram| sink.send(to, datagram));
        for entry in nodes.iter().filter_map(|node| self.directory.get(*node)) {
            packer.record(&entry.record, self.belief(entry, &beliefs));
        }
        packer.finish();
    }

    pub(super) fn send_own(&self, to: &[SocketAddr], flags: u8, sink: &mut dyn MemberSink) {
        let emit = |datagram: &[u8]| to.iter().for_each(|to| sink.send(*to, datagram));
        let mut packer = Packer::records(flags, self.sender(), emit);
        packer.record(self.directory.own(), self.own_belief());
        packer.finish();
    }

    /// Notes a change of the own record and sends it at once, or with the next ones if it follows
    /// closely on another.
    pub(super) fn publish_own(&mut self, now: Time, sink: &mut dyn MemberSink) {
        self.directory.own_mut().version += 1;
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
        self.send_own(&self.reachable_addresses(), 0, sink);
    }

    /// To every member, also to those that may not hear it.
    pub(super) fn push_own_everywhere(&mut self, sink: &mut dyn MemberSink) {
        let others = self.directory.others().map(|entry| entry.record.member.address);
        let to: Vec<SocketAddr> = others.collect();
        self.send_own(&to, 0, sink);
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
        for to in to {
            self.send_records(&[node], to, 0, sink);
        }
    }

    /// Tells every reachable member, and the accused, that this node has given a member up.
    pub(super) fn spread_verdict(&mut self, accused: NodeRef, sink: &mut dyn MemberSink) {
        let Some(entry) = self.current(accused).cloned() else { return };
        let address = entry.record.member.address;
        let belief = self.swim.belief(address, accused);
        let mut to = self.reachable_addresses();
        if !to.contains(&address) {
            to.push(address);
        }
        self.remark(&entry, belief, &to, sink);
    }

    fn remark(&self, entry: &Entry, belief: Belief, to: &[SocketAddr], sink: &mut dyn MemberSink) {
        let about = [summary_entry(entry, belief)];
        let emit = |datagram: &[u8]| to.iter().for_each(|to| sink.send(*to, datagram));
        messages::remarks(self.sender(), &about, emit);
    }

    /// Tells an unreachable member that it counts as dead; if it hears this it renews itself.
    pub(super) fn call_unreachable(&mut self, entry: &Entry, sink: &mut dyn MemberSink) {
        let member = &entry.record.member;
        let belief = self.swim.belief(member.address, member.node_ref());
        self.remark(entry, belief, &[member.address], sink);
    }

    fn unreachable(&self) -> Vec<Entry> {
        self.directory.others().filter(|entry| !entry.record.member.reachable).cloned().collect()
    }

    /// Calls a few of the unreachable members.
    pub(super) fn recontact(&mut self, sink: &mut dyn MemberSink) {
        let unreachable = self.unreachable();
        for entry in self.pick(unreachable, RECONTACT_FAN_OUT) {
            self.call_unreachable(&entry, sink);
        }
    }

    /// Calls all unreachable members, because something suggests that a partition has healed.
    pub(super) fn recall_all(&mut self, now: Time, sink: &mut dyn MemberSink) {
        if self.last_recall.is_some_and(|last| now.since(last) < RECALL_GAP) {
            return;
        }
        self.last_recall = Some(now);
        for entry in self.unreachable() {
            self.call_unreachable(&entry, sink);
        }
    }
}

/// What the records of one datagram have brought.
#[derive(Default)]
struct News {
    /// New here, to be passed on.
    fresh: Vec<NodeRef>,
    /// Of which the sender has an older one than this node.
    outdated: Vec<NodeId>,
}

fn summary_entry(entry: &Entry, belief: Belief) -> SummaryEntry {
    let member = entry.node_ref();
    let (version, state) = (entry.record.version, entry.record.member.state);
    SummaryEntry { member, version, state, belief }
}
