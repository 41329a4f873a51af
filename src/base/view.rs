//! The view: what a node holds to be true about its cluster. Membership makes it, routing and
//! users read it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::ids::{HandlerId, Incarnation, MessageTypeId, NodeId, NodeRef};
use super::layout::LayoutHash;
use super::time::Time;
use super::{Path, Placed};

/// Where a member stands in its life. The order is the order in which states follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// Known, but not yet open for messages (the cluster has not reached its minimum size).
    Joining,
    /// Takes messages.
    Up,
    /// Leaves gracefully: gets no new messages, finishes what it has.
    Leaving,
    /// Has left gracefully; forgotten after a while.
    Left,
    /// Was removed by the partition policy, an operator, or a newer incarnation.
    Down,
}

/// A message type as members tell each other: two types of one name are the same only if their
/// bytes mean the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageType {
    /// The name that programs share.
    pub name: Arc<str>,
    /// What its bytes mean, those of its reply included.
    pub layout: LayoutHash,
}

impl MessageType {
    /// The type with this name and layout.
    pub fn new(name: &str, layout: LayoutHash) -> Self {
        Self { name: name.into(), layout }
    }

    /// How frames name it.
    pub fn id(&self) -> MessageTypeId {
        MessageTypeId::of(&self.name, self.layout)
    }
}

/// A message type as the program that sends it knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeRef {
    /// The name that programs share.
    pub name: &'static str,
    /// What its bytes mean, those of its reply included.
    pub layout: LayoutHash,
    /// How frames name it.
    pub id: MessageTypeId,
}

/// `name#layout`
impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.name, self.layout)
    }
}

/// A handler's path on one node, with the message types it takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// Where it is served.
    pub path: Path,
    /// The registration's id on that node.
    pub handler: HandlerId,
    /// Which of the node's workers run it.
    pub placed: Placed,
    /// The message types it takes, sorted by name.
    pub messages: Vec<MessageType>,
}

/// What is reckoned for a text beside its bytes: its counts and its place in a map.
const TEXT_BYTES: usize = 64;

/// One node as its cluster sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Unique in the cluster; defaults to the advertised address.
    pub name: Arc<str>,
    /// Hash of the name, and the order of a view.
    pub id: NodeId,
    /// Where its listening port (TCP and UDP) can be reached.
    pub address: SocketAddr,
    /// Which life of the node this is.
    pub incarnation: Incarnation,
    /// Where it stands in its life.
    pub state: MemberState,
    /// Whether it answers. Separate from the state: an unreachable member stays a member until it
    /// comes back or a policy removes it.
    pub reachable: bool,
    /// Set while it answers and gets no keys all the same, because it fell silent again and again:
    /// until when, by this node's clock, if it goes on answering.
    pub damped_until: Option<Time>,
    /// How many workers it has: a path has a routee on each, or on some of them.
    pub workers: u16,
    /// Share of keys and load relative to others; 1 to 1,000, usually 100.
    pub weight: u32,
    /// Free labels that routers can ask for.
    pub roles: BTreeSet<Arc<str>>,
    /// Free key-value pairs.
    pub metadata: BTreeMap<Arc<str>, Arc<str>>,
    /// The embedding application's version, for rolling upgrades.
    pub app_version: Arc<str>,
    /// What it serves, sorted by path.
    pub services: Vec<Service>,
}

impl Member {
    /// This life of this node.
    pub fn node_ref(&self) -> NodeRef {
        NodeRef { node: self.id, incarnation: self.incarnation }
    }

    /// Whether nothing of it is new but whether it answers, and is damped.
    pub fn is_as_was(&self, before: &Self) -> bool {
        let Self {
            name,
            id,
            address,
            incarnation,
            state,
            reachable: _,
            damped_until: _,
            workers,
            weight,
            roles,
            metadata,
            app_version,
            services,
        } = self;
        (id, incarnation, state, address)
            == (&before.id, &before.incarnation, &before.state, &before.address)
            && (workers, weight, services) == (&before.workers, &before.weight, &before.services)
            && (name, app_version) == (&before.name, &before.app_version)
            && (roles, metadata) == (&before.roles, &before.metadata)
    }

    /// What it takes in memory, reckoned rather high: texts that others hold as well count whole.
    pub fn memory_bytes(&self) -> usize {
        let texts = |texts: &mut dyn Iterator<Item = &str>| -> usize {
            texts.map(|text| TEXT_BYTES + text.len()).sum()
        };
        let roles = self.roles.iter().map(|role| &**role);
        let metadata = self.metadata.iter().flat_map(|(key, value)| [&**key, &**value]);
        let services = self.services.iter().map(|service| {
            let names = service.messages.iter().map(|message| &*message.name);
            let lists = size_of_val(&service.messages[..]) + size_of_val(service.placed.named());
            size_of::<Service>() + lists + texts(&mut names.chain([&*service.path]))
        });
        size_of::<Self>()
            + texts(&mut [&*self.name, &*self.app_version].into_iter().chain(roles).chain(metadata))
            + services.sum::<usize>()
    }

    /// Whether it has its place in route tables: it keeps its keys' places while it is unreachable.
    pub fn is_routed(&self) -> bool {
        self.state == MemberState::Up
    }

    /// Whether it takes messages.
    pub fn answers(&self) -> bool {
        self.state == MemberState::Up && self.reachable
    }

    /// Whether routers send to it, also when others could take its messages.
    pub fn is_usable(&self) -> bool {
        self.answers() && self.damped_until.is_none()
    }
}

/// The members as one node sees them: sorted, immutable, with a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Which node this is the view of.
    pub me: NodeRef,
    /// Rises with every change on this node; not comparable between nodes.
    pub version: u64,
    /// Sorted by [`NodeId`]. Holds joining, up and leaving members; left and down ones are gone.
    /// Views share the members that are the same in them.
    pub members: Vec<Arc<Member>>,
    /// Hash over everything in `members` that does not differ by the clock: equal digests mean equal
    /// member lists.
    pub digest: u64,
    /// Hash over everything in `members` but whether they are reachable or damped: what route tables
    /// are made of. A member that stops answering, or answers again, does not change it.
    pub roster_digest: u64,
}

impl View {
    /// Sorts the members and computes the digests.
    pub fn new<M: Into<Arc<Member>>>(me: NodeRef, version: u64, members: Vec<M>) -> Self {
        Self::after(None, me, version, members.into_iter().map(Into::into).collect())
    }

    /// The view that comes after this one.
    pub fn next(&self, me: NodeRef, members: Vec<Arc<Member>>) -> Self {
        Self::after(Some(self), me, self.version + 1, members)
    }

    /// Most often only who is reachable has changed; then the roster's digest is not computed again.
    fn after(
        before: Option<&Self>,
        me: NodeRef,
        version: u64,
        mut members: Vec<Arc<Member>>,
    ) -> Self {
        members.sort_by_key(|member| member.id);
        let same_roster = before.filter(|before| {
            let mut pairs = members.iter().zip(&before.members);
            members.len() == before.members.len()
                && pairs.all(|(is, was)| Arc::ptr_eq(is, was) || is.is_as_was(was))
        });
        let roster = same_roster.map_or_else(|| roster_digest(&members), |it| it.roster_digest);
        let digest = digest(roster, &members);
        Self { me, version, members, digest, roster_digest: roster }
    }

    /// Whether its members are in order, each once, and its digests are theirs.
    pub(crate) fn is_in_order(&self) -> bool {
        self.members.is_sorted_by(|one, next| one.id < next.id)
            && roster_digest(&self.members) == self.roster_digest
            && digest(self.roster_digest, &self.members) == self.digest
    }

    /// The member with this identity, if it is in the view.
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members
            .binary_search_by_key(&id, |member| member.id)
            .ok()
            .map(|index| &*self.members[index])
    }
}

fn digest(roster_digest: u64, members: &[Arc<Member>]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&roster_digest.to_le_bytes());
    for member in members {
        let damped = member.damped_until.is_some();
        hash.update(&[u8::from(member.reachable) | u8::from(damped) << 1]);
    }
    hash.digest()
}

fn roster_digest(members: &[Arc<Member>]) -> u64 {
    let mut hash = Xxh3::new();
    // Every variable-length part is preceded by its length, so that no two lists hash alike by
    // sliding bytes from one field into the next.
    fn text(hash: &mut Xxh3, text: &str) {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    for member in members {
        text(&mut hash, &member.name);
        text(&mut hash, &member.address.to_string());
        hash.update(&member.incarnation.0.to_le_bytes());
        hash.update(&[member.state as u8]);
        hash.update(&member.workers.to_le_bytes());
        hash.update(&member.weight.to_le_bytes());
        hash.update(&(member.roles.len() as u64).to_le_bytes());
        for role in &member.roles {
            text(&mut hash, role);
        }
        hash.update(&(member.metadata.len() as u64).to_le_bytes());
        for (key, value) in &member.metadata {
            text(&mut hash, key);
            text(&mut hash, value);
        }
        text(&mut hash, &member.app_version);
        hash.update(&(member.services.len() as u64).to_le_bytes());
        for service in &member.services {
            text(&mut hash, &service.path);
            hash.update(&service.handler.0.to_le_bytes());
            hash.update(&(service.placed.named().len() as u64).to_le_bytes());
            for worker in service.placed.named() {
                hash.update(&worker.0.to_le_bytes());
            }
            hash.update(&(service.messages.len() as u64).to_le_bytes());
            for message in &service.messages {
                text(&mut hash, &message.name);
                hash.update(&message.layout.0.to_le_bytes());
            }
        }
    }
    hash.digest()
}

/// What changed in a view.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemberEvent {
    /// A member is known for the first time, in any state.
    Joined(Arc<Member>),
    /// A member's state, roles, weight, metadata or services changed.
    Changed(Arc<Member>),
    /// A member stopped answering.
    Unreachable(Arc<Member>),
    /// A member answers again, in the same incarnation.
    Reachable(Arc<Member>),
    /// A member that answers gets no keys for now: it fell silent again and again, the last time
    /// just now.
    Damped(Arc<Member>),
    /// A member that was damped has answered for long enough.
    Settled(Arc<Member>),
    /// A member left the view: gracefully (`Left`) or not (`Down`).
    Removed(Arc<Member>),
}

impl MemberEvent {
    /// Whom it tells of.
    pub fn member(&self) -> &Arc<Member> {
        match self {
            Self::Joined(member)
            | Self::Changed(member)
            | Self::Unreachable(member)
            | Self::Reachable(member)
            | Self::Damped(member)
            | Self::Settled(member)
            | Self::Removed(member) => member,
        }
    }
}

#[cfg(test)]
impl Member {
    /// Up and reachable, with one worker, and nothing else of note.
    pub(crate) fn plain(life: NodeRef, address: SocketAddr) -> Self {
        Self {
            name: "n".into(),
            id: life.node,
            address,
            incarnation: life.incarnation,
            state: MemberState::Up,
            reachable: true,
            damped_until: None,
            workers: 1,
            weight: 100,
            roles: BTreeSet::new(),
            metadata: BTreeMap::new(),
            app_version: "".into(),
            services: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::WorkerIndex;
    use super::*;

    fn member(name: &str) -> Member {
        Member {
            name: name.into(),
            ..Member::plain(
                NodeRef { node: NodeId::from_name(name), incarnation: Incarnation(1) },
                "127.0.0.1:7400".parse().expect("an address"),
            )
        }
    }

    fn view(members: Vec<Member>) -> View {
        let me = NodeRef { node: NodeId::from_name("a"), incarnation: Incarnation(1) };
        View::new(me, 1, members)
    }

    #[test]
    fn the_order_in_which_members_are_learned_changes_nothing() {
        let names = ["a", "b", "c", "d", "e"];
        let there = view(names.map(member).to_vec());
        let mut back = names.map(member).to_vec();
        back.reverse();
        assert_eq!(there, view(back));
        assert!(there.members.is_sorted_by_key(|member| member.id));
        for name in names {
            let found = there.member(NodeId::from_name(name)).expect("it is in the view");
            assert_eq!(&*found.name, name);
        }
    }

    /// A change of one thing about a member.
    type Change = fn(&mut Member);

    #[test]
    fn every_field_counts_in_the_digest() {
        fn service(layout: u64) -> Service {
            let messages = vec![MessageType::new("m", LayoutHash(layout))];
            let (path, handler) = ("/user/a".parse().unwrap(), HandlerId(0));
            Service { path, handler, placed: Placed::EVERY, messages }
        }
        fn on(worker: u16) -> Service {
            Service { placed: Placed::new(vec![WorkerIndex(worker)], 2).unwrap(), ..service(1) }
        }
        let changes: [Change; 14] = [
            |member| member.address.set_port(1),
            |member| member.incarnation = Incarnation(2),
            |member| member.state = MemberState::Leaving,
            |member| member.reachable = false,
            |member| member.damped_until = Some(Time(1)),
            |member| member.workers = 2,
            |member| member.weight = 99,
            |member| member.roles = BTreeSet::from(["front".into()]),
            |member| member.metadata = BTreeMap::from([("rack".into(), "7".into())]),
            |member| member.app_version = "2".into(),
            |member| member.services.push(service(1)),
            |member| member.services.push(service(2)),
            |member| member.services.push(on(0)),
            |member| member.services.push(on(1)),
        ];
        let mut digests = BTreeSet::from([view(vec![member("a")]).digest]);
        for (index, change) in changes.into_iter().enumerate() {
            let mut changed = member("a");
            change(&mut changed);
            let next =
                view(vec![member("a")]).next(changed.node_ref(), vec![changed.clone().into()]);
            let view = view(vec![changed]);
            assert!(digests.insert(view.digest), "change {index} is not seen");
            let (both, as_well) =
                ((next.digest, next.roster_digest), (view.digest, view.roster_digest));
            assert_eq!(both, as_well, "change {index}");
        }
    }

    #[test]
    fn who_answers_does_not_count_in_the_roster() {
        let (there, mut silent) = (view(vec![member("a")]), member("a"));
        silent.reachable = false;
        let silent = view(vec![silent]);
        assert_eq!(there.roster_digest, silent.roster_digest);
        assert_ne!(there.digest, silent.digest);
        let mut damped = member("a");
        damped.damped_until = Some(Time(1));
        let other_clock = Member { damped_until: Some(Time(2)), ..damped.clone() };
        let (damped, other_clock) = (view(vec![damped]), view(vec![other_clock]));
        assert_eq!(there.roster_digest, damped.roster_digest);
        assert_ne!(there.digest, damped.digest);
        assert_eq!(damped.digest, other_clock.digest, "clocks differ from node to node");
    }
}
