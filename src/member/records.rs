//! The directory of member records: a replicated set in which each node writes its own record and
//! the newest wins, so that any exchange in any order leads every node to the same content.
//!
//! Two rules go beyond "newest wins". A removal (`Down`) is written by others and beats every
//! record of the same incarnation. And a name in use is kept: a record that puts a reachable
//! member's name at another address is refused until that member stops answering.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::base::{
    HandlerId, Incarnation, LayoutHash, Member, MemberState, MessageType, NodeId, NodeRef, Path,
    Placed, Service, Time, WorkerIndex,
};
use crate::config::{MAX_MEMBERS, MAX_WEIGHT};
use crate::wire::codec::{ReadResult, Reader, Unreadable, Writer};

/// The largest member record that is sent or taken, as encoded.
pub const MAX_RECORD_BYTES: usize = 8 * 1024;
/// How many records, with those of former members, one node keeps.
pub const MAX_RECORDS: usize = MAX_MEMBERS as usize;

/// What one node says about itself, with the counter of its changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Reachability is no part of the record; the flag in here is the holder's own. Views share it:
    /// who changes it changes a copy.
    pub member: Arc<Member>,
    pub version: u64,
    /// Up to which renewal of its identity the member is used.
    pub fit: u32,
    /// How long it has to be steady until it is used again, if it is not; 0 if it is. What is shown
    /// follows from it, and nothing else.
    pub hold_ms: u32,
}

pub(super) fn is_gone(state: MemberState) -> bool {
    matches!(state, MemberState::Left | MemberState::Down)
}

impl Record {
    /// Whether it stands for a member, not for the memory of one.
    pub fn is_live(&self) -> bool {
        !is_gone(self.member.state)
    }

    pub fn member_mut(&mut self) -> &mut Member {
        Arc::make_mut(&mut self.member)
    }

    pub fn put(&self, out: &mut Writer<'_>) {
        let member = &self.member;
        out.u64(member.incarnation.0).u64(self.version).u8(state_byte(member.state));
        out.address(member.address).u16(member.workers).u32(member.weight);
        out.u32(self.fit).u32(self.hold_ms);
        out.text(&member.name).text(&member.app_version);
        put_count(out, member.roles.len());
        for role in &member.roles {
            out.text(role);
        }
        put_count(out, member.metadata.len());
        for (key, value) in &member.metadata {
            out.text(key).text(value);
        }
        put_count(out, member.services.len());
        for service in &member.services {
            out.text(&service.path).u32(service.handler.0);
            put_placed(out, &service.placed);
            put_count(out, service.messages.len());
            for message in &service.messages {
                out.text(&message.name).u64(message.layout.0);
            }
        }
    }

    pub fn encoded_bytes(&self) -> usize {
        let mut out = Vec::new();
        self.put(&mut Writer::new(&mut out));
        out.len()
    }

    pub fn read(reader: &mut Reader<'_>) -> ReadResult<Self> {
        let incarnation = read_incarnation(reader)?;
        let version = reader.u64()?;
        let state = read_state(reader.u8()?)?;
        let address = reader.address()?;
        let workers = reader.u16()?;
        let weight = reader.u32()?;
        let (fit, hold_ms) = (reader.u32()?, reader.u32()?);
        let name = reader.text()?;
        let app_version = reader.text()?;
        let mut roles = BTreeSet::new();
        for _ in 0..reader.u16()? {
            roles.insert(reader.text()?);
        }
        let mut metadata = BTreeMap::new();
        for _ in 0..reader.u16()? {
            metadata.insert(reader.text()?, reader.text()?);
        }
        let mut services: Vec<Service> = Vec::new();
        for _ in 0..reader.u16()? {
            let path = Path::new(reader.text()?)
                .map_err(|_| Unreadable("a service's path in a record is none"))?;
            let handler = HandlerId(reader.u32()?);
            let placed = read_placed(reader, workers)?;
            let mut messages = Vec::new();
            for _ in 0..reader.u16()? {
                let name = reader.text()?;
                messages.push(MessageType { name, layout: LayoutHash(reader.u64()?) });
            }
            if services.last().is_some_and(|last| last.path >= path) || !messages.is_sorted() {
                return Err(Unreadable("the services of a record are not sorted"));
            }
            services.push(Service { path, handler, placed, messages });
        }
        if name.is_empty() || name.len() > 255 {
            return Err(Unreadable("a member's name is empty or too long"));
        }
        // Each worker becomes a place that links and tables know.
        let weighs = (1..=MAX_WEIGHT).contains(&weight.into());
        if !(1..=WorkerIndex::MOST).contains(&workers) || !weighs {
            return Err(Unreadable("a member's workers or weight are out of range"));
        }
        let id = NodeId::from_name(&name);
        let member = Member {
            name,
            id,
            address,
            incarnation,
            state,
            reachable: false,
            damped_until: None,
            workers,
            weight,
            roles,
            metadata,
            app_version,
            services,
        };
        Ok(Self { member: Arc::new(member), version, fit, hold_ms })
    }

    /// Whether this is not the last word about its member, which wrote it: what is held of the same
    /// life elsewhere is later, or of the same version and says something else.
    pub fn is_outdone_by(&self, other: &Self) -> bool {
        match other.version.cmp(&self.version) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => tie(self, other) != Merge::Same,
            std::cmp::Ordering::Greater => true,
        }
    }

    /// What decides between two records of one incarnation: removal first, then the newer version.
    pub fn rank(&self) -> (bool, u64) {
        (self.member.state == MemberState::Down, self.version)
    }
}

fn put_count(out: &mut Writer<'_>, count: usize) {
    // A count that does not fit belongs to a record beyond the size limit, which is never sent.
    out.u16(count as u16);
}

fn put_placed(out: &mut Writer<'_>, placed: &Placed) {
    put_count(out, placed.named().len());
    for worker in placed.named() {
        out.u16(worker.0);
    }
}

/// In the one form that it has: which are all of the node's workers are not named.
fn read_placed(reader: &mut Reader<'_>, workers: u16) -> ReadResult<Placed> {
    let count = reader.u16()?;
    let mut named = Vec::new();
    for _ in 0..count {
        named.push(WorkerIndex(reader.u16()?));
    }
    let placed = Placed::new(named, workers);
    let placed = placed.filter(|placed| placed.named().len() == usize::from(count));
    placed.ok_or(Unreadable("the workers of a service are not some of its node's, in order"))
}

/// Of a life that there can be.
pub(super) fn read_incarnation(reader: &mut Reader<'_>) -> ReadResult<Incarnation> {
    let incarnation = Incarnation(reader.u64()?);
    if incarnation > Incarnation::LAST {
        return Err(Unreadable("an incarnation is beyond the last one that there can be"));
    }
    Ok(incarnation)
}

pub(super) fn read_life(reader: &mut Reader<'_>) -> ReadResult<NodeRef> {
    Ok(NodeRef { node: NodeId(reader.u64()?), incarnation: read_incarnation(reader)? })
}

pub(super) fn state_byte(state: MemberState) -> u8 {
    match state {
        MemberState::Joining => 0,
        MemberState::Up => 1,
        MemberState::Leaving => 2,
        MemberState::Left => 3,
        MemberState::Down => 4,
    }
}

pub(super) fn read_state(byte: u8) -> ReadResult<MemberState> {
    Ok(match byte {
        0 => MemberState::Joining,
        1 => MemberState::Up,
        2 => MemberState::Leaving,
        3 => MemberState::Left,
        4 => MemberState::Down,
        _ => return Err(Unreadable("a member is in an unknown state")),
    })
}

/// One record as held here, with what only the holder knows.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub record: Record,
    /// Set while a live member is unreachable.
    pub unreachable_since: Option<Time>,
    /// Set when the member left or was removed.
    pub gone_since: Option<Time>,
    /// It, or an earlier life of it, was removed or replaced without having said itself that it
    /// ends, and so may run still where nobody hears it.
    pub at_large: bool,
    /// The latest identity under which it was seen to answer.
    pub renewal: Option<Renewal>,
}

/// Which identity of one life of a member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Renewal {
    pub number: u32,
    /// When it was first seen here.
    pub since: Time,
    /// Whether an earlier one was seen here before.
    pub risen: bool,
}

impl Entry {
    pub fn node_ref(&self) -> NodeRef {
        self.record.member.node_ref()
    }

    /// Whether it answers and is not fit to be used.
    pub fn has_relapsed(&self) -> bool {
        let unfit = |renewal: Renewal| renewal.number > self.record.fit;
        self.record.is_live() && self.record.member.reachable && self.renewal.is_some_and(unfit)
    }

    /// It answers under this identity.
    pub fn answers(&mut self, now: Time, number: u32) {
        if self.renewal.is_none_or(|known| known.number < number) {
            self.renewal = Some(Renewal { number, since: now, risen: self.renewal.is_some() });
        }
    }
}

/// What became of an incoming record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merge {
    /// It is what is already held.
    Same,
    /// What is held is newer.
    Stale,
    /// Its name is in use by a reachable member elsewhere.
    Refused,
    /// There is no room.
    Full,
    /// A node not known before.
    Added,
    /// News about a known life of a node.
    Changed,
    /// Another life of a known node.
    Replaced,
}

impl Merge {
    pub fn is_news(self) -> bool {
        matches!(self, Self::Added | Self::Changed | Self::Replaced)
    }
}

/// All records, by node. This node's own is always among them.
#[derive(Debug)]
pub(super) struct Directory {
    pub entries: BTreeMap<NodeId, Entry>,
    me: NodeId,
    limit: usize,
    /// When some member was last seen to be unreachable.
    away_until: Time,
}

impl Directory {
    pub fn new(mut own: Record, limit: usize) -> Self {
        let me = own.member.id;
        own.member_mut().reachable = true;
        let renewal = Some(Renewal { number: 0, since: Time::ZERO, risen: false });
        let (unreachable_since, gone_since, at_large) = (None, None, false);
        let entry = Entry { record: own, unreachable_since, gone_since, at_large, renewal };
        Self { entries: BTreeMap::from([(me, entry)]), me, limit, away_until: Time::ZERO }
    }

    pub fn own(&self) -> &Record {
        &self.entries[&self.me].record
    }

    /// The own record is another one, of the next version. False when there is none: then others hold
    /// one that this node has not written.
    pub fn raise_own(&mut self) -> bool {
        let own = self.own_mut();
        let next = own.version.checked_add(1);
        own.version = next.unwrap_or(own.version);
        next.is_some()
    }

    /// For changes by this node; the caller raises the version.
    pub fn own_mut(&mut self) -> &mut Record {
        &mut self.own_entry_mut().record
    }

    pub fn own_entry_mut(&mut self) -> &mut Entry {
        self.entries.get_mut(&self.me).expect("the own record is never removed")
    }

    pub fn get(&self, node: NodeId) -> Option<&Entry> {
        self.entries.get(&node)
    }

    /// The members other than this node.
    pub fn others(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(|entry| entry.record.is_live() && !self.is_own(entry))
    }

    /// The members, with this node if it still is one.
    pub fn live(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(|entry| entry.record.is_live())
    }

    fn is_own(&self, entry: &Entry) -> bool {
        entry.record.member.id == self.me
    }

    /// Takes a record of another node, unless what is held wins. `active` says whether the sender
    /// believes that the record's member is alive, and nothing here speaks against it.
    pub fn merge(&mut self, now: Time, mut record: Record, active: bool) -> Merge {
        let node = record.member.id;
        assert!(node != self.me, "the own record is written by this node only");
        record.member_mut().reachable = false;
        let known = self.entries.get(&node).map(|held| compare(held, &record, active));
        let verdict = match known {
            Some(verdict) => verdict,
            None if self.make_room() => Merge::Added,
            None => Merge::Full,
        };
        if verdict.is_news() {
            let live = record.is_live();
            let held = self.entries.get(&node);
            if verdict == Merge::Changed
                && let Some(held) = held
            {
                let (member, held) = (record.member_mut(), &held.record.member);
                member.reachable = held.reachable && live;
                member.damped_until = held.damped_until;
            }
            // Another life has not been silent yet.
            let same = held.filter(|_| verdict == Merge::Changed);
            let since = same.and_then(|held| held.unreachable_since).unwrap_or(now);
            let renewal = same.and_then(|held| held.renewal);
            let unreachable_since = (live && !record.member.reachable).then_some(since);
            let gone_since = held.and_then(|held| held.gone_since).unwrap_or(now);
            let gone_since = (!live).then_some(gone_since);
            let replaced = |held: &Entry| verdict == Merge::Replaced && held.record.is_live();
            let at_large = record.member.state == MemberState::Down
                || held.is_some_and(|held| held.at_large || replaced(held));
            let entry = Entry { record, unreachable_since, gone_since, at_large, renewal };
            self.entries.insert(node, entry);
        }
        verdict
    }

    /// Whether a record would be taken as that of a life that is not among the members yet.
    pub fn is_new_life(&self, record: &Record, active: bool) -> bool {
        if !record.is_live() {
            return false;
        }
        match self.entries.get(&record.member.id) {
            Some(held) => compare(held, record, active) == Merge::Replaced,
            None => self.has_room(),
        }
    }

    /// Whether a record of this node is held, or would find room.
    pub fn has_place(&self, node: NodeId) -> bool {
        self.entries.contains_key(&node) || self.has_room()
    }

    /// How many records it keeps at most.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether one more record would find room without another one's being forgotten.
    pub fn has_free_room(&self) -> bool {
        self.entries.len() < self.limit
    }

    /// Whether one more record would find room.
    pub fn has_room(&self) -> bool {
        let gone = |entry: &Entry| entry.gone_since.is_some() && !self.is_own(entry);
        self.has_free_room() || self.entries.values().any(gone)
    }

    /// Writes the removal of a member's current incarnation.
    pub fn bury(&mut self, now: Time, node: NodeId) {
        if let Some(entry) = self.entries.get_mut(&node) {
            let member = entry.record.member_mut();
            member.state = MemberState::Down;
            member.reachable = false;
            entry.unreachable_since = None;
            entry.gone_since = Some(now);
            entry.at_large = true;
        }
    }

    /// This life, or an earlier one, may run still although it has ended.
    pub fn mark_at_large(&mut self, life: NodeRef) {
        let held = self.entries.get_mut(&life.node).filter(|_| life.node != self.me);
        if let Some(held) = held.filter(|held| held.node_ref().incarnation >= life.incarnation) {
            held.at_large = true;
        }
    }

    /// A member is unreachable, or was until now.
    pub fn is_away(&mut self, now: Time) {
        self.away_until = now;
    }

    /// Whether a member is unreachable.
    pub fn someone_is_away(&self) -> bool {
        self.others().any(|entry| !entry.record.member.reachable)
    }

    /// Forgets former members that have been gone for longer than this, while every member was there
    /// to hear of it: whoever was away holds them for members still, and would bring them back. Those
    /// at large are not forgotten by time: nobody knows when they have heard of it.
    pub fn expire(&mut self, now: Time, after: Duration) {
        if self.someone_is_away() {
            self.is_away(now);
        }
        let (me, heard) = (self.me, self.away_until);
        let is_over = |since: Time| now.since(since.max(heard)) >= after;
        self.entries.retain(|node, entry| {
            *node == me || entry.at_large || !entry.gone_since.is_some_and(is_over)
        });
    }

    fn make_room(&mut self) -> bool {
        if self.has_free_room() {
            return true;
        }
        let gone = |(node, entry): (&NodeId, &Entry)| entry.gone_since.map(|at| (at, *node));
        let oldest = self.entries.iter().filter(|(node, _)| **node != self.me).filter_map(gone);
        match oldest.min() {
            Some((_, node)) => self.entries.remove(&node).is_some(),
            None => false,
        }
    }
}

fn compare(held: &Entry, record: &Record, active: bool) -> Merge {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let (ours, theirs) = (&held.record.member, &record.member);
    let moved = ours.address != theirs.address;
    let in_use = held.record.is_live() && ours.reachable;
    match theirs.incarnation.cmp(&ours.incarnation) {
        Greater if moved && in_use => Merge::Refused,
        Greater => Merge::Replaced,
        // Two processes once had this name at two addresses. The later one won, but does not
        // answer; the earlier one does.
        Less if moved && !in_use && held.record.is_live() && active && record.is_live() => {
            Merge::Replaced
        }
        Less => Merge::Stale,
        Equal if moved && in_use && record.is_live() => Merge::Refused,
        Equal => match record.rank().cmp(&held.record.rank()) {
            Greater => Merge::Changed,
            Less => Merge::Stale,
            Equal => tie(&held.record, record),
        },
    }
}

/// One author never writes two records of one version; if somebody did, everyone keeps the same.
fn tie(held: &Record, record: &Record) -> Merge {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    held.put(&mut Writer::new(&mut ours));
    record.put(&mut Writer::new(&mut theirs));
    match theirs.cmp(&ours) {
        std::cmp::Ordering::Equal => Merge::Same,
        std::cmp::Ordering::Greater => Merge::Changed,
        std::cmp::Ordering::Less => Merge::Stale,
    }
}
