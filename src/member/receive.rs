//! What a datagram does: first it is settled whether its sender is a member, then its content is
//! taken over, and then whatever the sender lacks is sent back.

use std::net::SocketAddr;

use crate::base::{Incarnation, MemberState, NodeId, NodeRef, Time};

use super::belief::Belief;
use super::door::Asked;
use super::identity::{Checked, SwimId};
use super::messages::{
    self, Body, FLAG_CLAIM, FLAG_COMPLETE, FLAG_ESTABLISHED, FLAG_JOIN, FLAG_WELCOME, Message,
    Numbers, RecordEntry, Sender,
};
use super::records::Merge;
use super::sync::summary_entry;
use super::{MAX_RECORDS, MemberError, MemberSink, Membership, Stage};

/// What the records of one datagram have brought.
#[derive(Default)]
struct News {
    /// New here, to be passed on.
    fresh: Vec<NodeRef>,
    /// Of which the sender has an older one than this node.
    outdated: Vec<NodeId>,
    /// Of lives that are not known here, in what may be played again: the sender is asked for them.
    hearsay: Vec<NodeId>,
}

/// Who sent a datagram.
struct Peer {
    sender: Sender,
    from: SocketAddr,
    /// Where it is answered.
    to: SocketAddr,
    is_member: bool,
}

impl Membership {
    /// A message of the failure detector, already checked.
    pub(super) fn take_swim(
        &mut self,
        now: Time,
        from: SocketAddr,
        checked: Checked,
        bytes: &[u8],
        sink: &mut dyn MemberSink,
    ) -> Result<(), MemberError> {
        let src = checked.src;
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
                self.tell_it_is_over(now, from, src.member, sink);
                return Ok(());
            }
            _ => {
                // Who it is comes first: a stranger must not take a member's address.
                self.ask_who(now, src.member, from, sink);
                self.swim.answer_unknown(now, &checked, sink);
                return Ok(());
            }
        }
        if !self.swim.has_room() {
            let directory = &self.directory;
            let keep = |id: &SwimId| {
                let entry = directory.get(id.member.node);
                entry.is_some_and(|entry| entry.node_ref() == id.member && entry.record.is_live())
            };
            self.swim.forget_except(now, keep, sink);
        }
        self.swim.be_sure(now, src, true, sink);
        self.swim.handle_data(now, &checked, bytes, sink);
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
        if let Some(outcome) = self.take_from_anyone(now, from, &message, sink) {
            return outcome;
        }
        if self.gets_answers(now, from, &message) {
            self.answers.is_sure();
        }
        let Message { sender, mut body } = message;
        if sender.member.node == self.me().node {
            match body {
                body if sender.member != self.me() || matches!(body, Body::NameTaken { .. }) => {
                    self.take_from_namesake(now, sender, body, sink);
                }
                // Its own calls come back when a seed's address leads to this very node.
                Body::Records { numbers: Numbers { asks: Some(number), .. }, .. } => {
                    self.came_back(now, number, sink);
                }
                _ => {}
            }
            return Ok(());
        }
        let mut news = News::default();
        if let Body::Records { flags, numbers, entries } = &mut body {
            // The sender's own record comes first: it decides whether the sender is a member.
            let own = |entry: &RecordEntry| entry.record.member.node_ref() == sender.member;
            if let Some(index) = entries.iter().position(own) {
                let (entry, about) = (entries.remove(index), (*flags, *numbers));
                if !self.take_senders_record(now, from, about, &entry, &mut news, sink)? {
                    return Ok(());
                }
            }
        }
        match self.place(now, from, sender, &body, sink) {
            Some(peer) => self.take_body(now, peer, body, news, sink),
            None => Ok(()),
        }
    }

    /// What counts whoever says it; `None` for what depends on the sender.
    fn take_from_anyone(
        &mut self,
        now: Time,
        from: SocketAddr,
        message: &Message,
        sink: &mut dyn MemberSink,
    ) -> Option<Result<(), MemberError>> {
        let me = self.me();
        match message.body {
            Body::Hello { nonce } => {
                let held = self.directory.get(message.sender.member.node);
                let latest = held.map_or(Incarnation(0), |held| held.node_ref().incarnation);
                sink.send(from, &messages::known(self.sender(), nonce, latest));
                Some(Ok(()))
            }
            Body::Full { about, limit } if about == me.incarnation => {
                Some(Err(match self.established {
                    false => MemberError::ClusterFull { limit },
                    // Only the sender has no place for it.
                    true => MemberError::NotListed { limit },
                }))
            }
            Body::Unproven { about } if about == me.incarnation => Some(self.is_awaited(now)),
            // Late answers to a hello are of no use.
            Body::Full { .. } | Body::Unproven { .. } | Body::Known { .. } => Some(Ok(())),
            _ => None,
        }
    }

    /// Settles whether the sender is a member and where it is answered; `None` when its time is
    /// over. One that is not known is asked who it is, unless it only asks or refuses: two that
    /// refuse each other would go on asking without end.
    fn place(
        &mut self,
        now: Time,
        from: SocketAddr,
        sender: Sender,
        body: &Body,
        sink: &mut dyn MemberSink,
    ) -> Option<Peer> {
        let asks = matches!(body, Body::Request { .. } | Body::AddressTaken { .. });
        let proves = matches!(body, Body::Prove { about, .. } if *about == self.me());
        match self.directory.get(sender.member.node) {
            Some(held) if held.node_ref() == sender.member && held.record.is_live() => {
                // Members are answered where they say that they are: who cannot be reached there
                // must not learn that it counts as dead, and come back.
                let to = held.record.member.address;
                self.sender_is_alive(now, to, sender, asks, sink);
                Some(Peer { sender, from, to, is_member: true })
            }
            Some(held) if held.node_ref().incarnation >= sender.member.incarnation => {
                self.tell_it_is_over(now, from, sender.member, sink);
                None
            }
            _ => {
                if !(asks || proves) || !self.directory.has_place(sender.member.node) {
                    self.ask_who(now, sender.member, from, sink);
                }
                Some(Peer { sender, from, to: from, is_member: false })
            }
        }
    }

    /// Asks who a sender is that is not known here, unless there is no place for it: then it is told
    /// that, since it would be asked again and again and never be listed.
    fn ask_who(&mut self, now: Time, sender: NodeRef, from: SocketAddr, sink: &mut dyn MemberSink) {
        if self.directory.has_place(sender.node) {
            // It always does. What is sent beside it has so much less room.
            self.answers.affords(messages::REQUEST_BYTES);
            self.request(now, &[sender.node], (sender, from), sink);
        } else {
            self.tell_no_room(from, sender, sink);
        }
    }

    fn tell_no_room(&self, from: SocketAddr, sender: NodeRef, sink: &mut dyn MemberSink) {
        let limit = self.directory.limit() as u32;
        sink.send(from, &messages::full(self.sender(), sender.incarnation, limit));
    }

    /// What is said by somebody who may say it.
    fn take_body(
        &mut self,
        now: Time,
        peer: Peer,
        body: Body,
        news: News,
        sink: &mut dyn MemberSink,
    ) -> Result<(), MemberError> {
        let Peer { sender, from, to, is_member } = peer;
        match body {
            // Nobody has seen yet whether the sender is where it says, so its word does not count,
            // whoever else knows it; but of this node itself it may know what this node missed. That
            // it finds this node silent is more likely its own fault.
            Body::Records { flags, entries, .. } if !is_member => {
                self.welcome_missed |= flags & FLAG_WELCOME != 0;
                let me = self.me().node;
                let about_me = entries.into_iter().find(|entry| entry.record.member.id == me);
                if let Some(mut entry) = about_me.filter(|_| flags & FLAG_ESTABLISHED != 0) {
                    entry.belief = Belief::Unknown;
                    self.own_record_seen(now, from, flags, &entry, sink);
                }
            }
            Body::Records { flags, numbers, entries } => {
                self.take_records(now, peer, (flags, numbers), &entries, news, sink);
            }
            // A member that holds the same lists this node too, and nobody needs to say so.
            Body::Digest(theirs) if is_member && theirs == self.digest() => self.established = true,
            // It is asked who it is, and told everything once it is a member. Nobody has seen yet that
            // what is sent there reaches it.
            Body::Digest(_) | Body::Summary { .. } if !is_member => {}
            Body::Digest(_) => {
                if self.answers.compared.may(now, to) {
                    let entries = self.summary();
                    messages::complete(self.sender(), &entries, |out| sink.send(to, out));
                }
            }
            Body::Summary { flags, low, high, entries } => {
                self.take_marks(flags, &entries);
                self.take_beliefs(now, &entries, sink);
                if self.stage == Stage::Running {
                    let range = (flags & FLAG_COMPLETE != 0).then_some((low, high));
                    self.compare(now, (sender.member, to), range, &entries, sink);
                }
            }
            // It has been told that there is no place for it; if it knew this node it would believe
            // that it has joined.
            Body::Request { .. } | Body::Prove { .. }
                if !self.directory.has_place(sender.member.node) => {}
            // Nobody has seen yet that an answer reaches who asks.
            Body::Request { number, nodes } if !is_member => {
                if nodes.contains(&self.me().node) {
                    self.ask_in_turn(now, (sender.member, to), number, sink);
                }
            }
            Body::Request { number, nodes } => {
                if self.answers.requested.may(now, (to, number, nodes.clone())) {
                    self.answer(now, &nodes, Some(number), to, sink);
                }
            }
            Body::Prove { about, number, .. } if about == self.me() => {
                self.prove_own(now, (sender.member, to), !is_member, number, sink);
            }
            Body::AddressTaken { about, by } if about == self.me().incarnation => {
                self.address_is_taken(now, by, sink);
            }
            // Meant for a namesake of the sender, for another life of this node, or for nobody that
            // runs.
            Body::NameTaken { .. }
            | Body::AddressTaken { .. }
            | Body::Full { .. }
            | Body::Prove { .. }
            | Body::Unproven { .. }
            | Body::Hello { .. }
            | Body::Known { .. } => {}
        }
        Ok(())
    }

    /// Takes what the sender says of itself. Returns whether the rest of its datagram counts.
    fn take_senders_record(
        &mut self,
        now: Time,
        from: SocketAddr,
        (flags, numbers): (u8, Numbers),
        entry: &RecordEntry,
        news: &mut News,
        sink: &mut dyn MemberSink,
    ) -> Result<bool, MemberError> {
        let member = &entry.record.member;
        if entry.record.is_live() && self.refuse_address(from, member, sink) {
            return Ok(false);
        }
        // A seed's welcome answers what this node sent there, and so proves that address.
        let is_there = from == member.address;
        let answers = is_there && self.is_seeds_answer(now, from, flags, numbers.answers);
        let new = self.is_of_new_life(entry);
        if new && !answers && !self.is_proven(now, from, entry, numbers, sink) {
            return Ok(false);
        }
        match self.take_record(now, from, flags, entry, news, sink) {
            Merge::Refused => Ok(false),
            Merge::Full => {
                self.tell_no_room(from, entry.record.member.node_ref(), sink);
                Err(MemberError::DirectoryFull { limit: MAX_RECORDS })
            }
            _ => Ok(true),
        }
    }

    /// Whether this is a seed's welcome, after a call of this node a moment ago.
    fn is_seeds_answer(&self, now: Time, from: SocketAddr, flags: u8, number: Option<u64>) -> bool {
        let called = |number| self.door.has_asked(now, Asked::Call, from, number);
        flags & FLAG_WELCOME != 0 && self.seeds.contains(&from) && number.is_some_and(called)
    }

    /// Whether a record would be taken as that of a life of another node that is not among the
    /// members yet.
    fn is_of_new_life(&self, entry: &RecordEntry) -> bool {
        let is_own = entry.record.member.id == self.me().node;
        !is_own && self.directory.is_new_life(&entry.record, self.is_active(entry))
    }

    /// Whether the sender of a record believes that its member is alive, and nothing here speaks
    /// against it.
    fn is_active(&self, entry: &RecordEntry) -> bool {
        let member = &entry.record.member;
        match (entry.belief, self.swim.belief(member.address, member.node_ref())) {
            (Belief::Active { renewal, .. }, Belief::Down { renewal: dead, .. }) => renewal > dead,
            (belief, _) => belief.is_active(),
        }
    }

    /// The sender speaks, so it is alive; if its identity is known to be dead it must renew it,
    /// and is told so. One that only asks is not: it may ask because it does not know this node, and
    /// would ask again for ever.
    fn sender_is_alive(
        &mut self,
        now: Time,
        to: SocketAddr,
        sender: Sender,
        asks: bool,
        sink: &mut dyn MemberSink,
    ) {
        let Some(entry) = self.current(sender.member) else { return };
        let address = entry.record.member.address;
        let belief = self.swim.belief(address, sender.member);
        match belief {
            Belief::Active { renewal, .. } if renewal >= sender.renewal => {}
            Belief::Down { renewal, .. } if renewal >= sender.renewal => {
                if !asks {
                    self.remark(entry, belief, &[to], sink);
                }
            }
            _ => {
                let alive = Belief::Active { renewal: sender.renewal, refuted: 0 };
                self.swim.believe(now, address, sender.member, alive, true, sink);
            }
        }
    }

    /// Somebody who has been removed or replaced still speaks: it gets the record that says so. Where
    /// that is too long for who has not shown that it gets it, it is asked for its own first, with a
    /// number. Who has left repeats that until it is shown that somebody knows.
    pub(super) fn tell_it_is_over(
        &mut self,
        now: Time,
        from: SocketAddr,
        member: NodeRef,
        sink: &mut dyn MemberSink,
    ) {
        let Some(held) = self.directory.get(member.node) else { return };
        let last = &held.record.member;
        if held.node_ref() == member && last.state == MemberState::Left {
            let to = last.address;
            let known = messages::former(self.sender(), 0, &[summary_entry(held, Belief::Unknown)]);
            if self.answers.affords(known.len()) && self.answers.over.may(now, (to, member.node)) {
                sink.send(to, &known);
            }
            return;
        }
        let belief = self.swim.belief(last.address, last.node_ref());
        let over = self.one_record(0, Numbers::default(), &held.record, belief);
        if !self.answers.affords(over.len()) {
            self.request(now, &[member.node], (member, from), sink);
        } else if self.answers.over.may(now, (from, member.node)) {
            sink.send(from, &over);
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
        let active = self.is_active(entry);
        let verdict = self.directory.merge(now, entry.record.clone(), active);
        match verdict {
            Merge::Refused => self.pass_claim(entry, sink),
            Merge::Full => self.stats.directory_full += 1,
            Merge::Stale => news.outdated.push(member.node),
            Merge::Same => {}
            Merge::Added | Merge::Changed | Merge::Replaced => {
                self.changed = true;
                self.touched.insert(member.node);
                let live = entry.record.is_live();
                if !live {
                    self.swim.give_up(now, address, member, false, sink);
                }
                // That one is gone whom this node never knew it does not hear as the first.
                if live || verdict != Merge::Added {
                    news.fresh.push(member);
                }
            }
        }
        if let Some(held) = self.current(member)
            && held.record.member.address == address
        {
            self.take_belief(now, member, entry.belief, sink);
        }
        verdict
    }

    /// What a member says of itself and others. Of lives that are not known here it counts only as
    /// an answer: else it may be a recording from before they ended.
    fn take_records(
        &mut self,
        now: Time,
        peer: Peer,
        (flags, numbers): (u8, Numbers),
        entries: &[RecordEntry],
        mut news: News,
        sink: &mut dyn MemberSink,
    ) {
        let answers = numbers.answers.is_some_and(|number| {
            let mut asked = [Asked::Records(peer.sender.member), Asked::Call].into_iter();
            asked.any(|asked| self.door.has_asked(now, asked, peer.to, number))
        });
        for entry in entries {
            if !answers && flags & FLAG_CLAIM == 0 && self.is_of_new_life(entry) {
                news.hearsay.push(entry.record.member.id);
                continue;
            }
            self.take_record(now, peer.to, flags, entry, &mut news, sink);
            if self.stage != Stage::Running {
                return;
            }
        }
        self.after_records(now, peer, (flags, numbers), news, sink);
    }

    fn after_records(
        &mut self,
        now: Time,
        Peer { sender, from, to, .. }: Peer,
        (flags, numbers): (u8, Numbers),
        news: News,
        sink: &mut dyn MemberSink,
    ) {
        self.answer(now, &news.outdated, None, to, sink);
        self.request(now, &news.hearsay, (sender.member, to), sink);
        let welcomed = flags & FLAG_WELCOME != 0;
        if welcomed {
            if from != to && self.is_seeds_answer(now, from, flags, numbers.answers) {
                self.seed_aliases.insert(from, sender.member);
            }
            self.introduce(now, &news.fresh, sink);
            // Who compares sends it again.
            if std::mem::take(&mut self.welcome_missed) {
                sink.send(to, &messages::digest(self.sender(), self.digest()));
            }
        }
        // A node that was alone has nobody to tell but those who told it.
        let known_to_all = welcomed && self.joined_alone;
        if !news.fresh.is_empty() && !known_to_all {
            self.pass_on(now, sender.member.node, &news.fresh, sink);
        }
        if flags & FLAG_JOIN != 0 && self.answers.welcomed.may(now, to) {
            self.welcome(to, numbers.asks, sink);
        }
    }
}
