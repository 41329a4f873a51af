//! A network in memory and a clock of its own for the tests of this folder: members exchange
//! datagrams with delay, loss and duplication, can be cut off, paused and killed, and everything
//! follows from one seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::base::{Incarnation, MemberEvent, MemberState, NodeId, NodeRef, Rng, Time, View};

use super::{
    LocalMember, Manual, MemberConfig, MemberError, MemberFault, MemberSink, MemberTimer,
    Membership, PartitionPolicy,
};

#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    Send(SocketAddr, Vec<u8>),
    Schedule(Time, MemberTimer),
    View(Arc<View>, Vec<MemberEvent>),
    Fault(MemberFault),
}

/// Keeps every effect in order.
#[derive(Debug, Default)]
pub struct Recorder(pub Vec<Effect>);

impl MemberSink for Recorder {
    fn send(&mut self, to: SocketAddr, payload: &[u8]) {
        self.0.push(Effect::Send(to, payload.to_vec()));
    }

    fn schedule(&mut self, at: Time, timer: MemberTimer) {
        self.0.push(Effect::Schedule(at, timer));
    }

    fn view_changed(&mut self, view: &Arc<View>, events: &[MemberEvent]) {
        self.0.push(Effect::View(view.clone(), events.to_vec()));
    }

    fn fault(&mut self, fault: MemberFault) {
        self.0.push(Effect::Fault(fault));
    }
}

pub fn address(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (index >> 8) as u8, index as u8], 7_400))
}

pub fn local(name: &str, address: SocketAddr, incarnation: u64) -> LocalMember {
    LocalMember {
        name: name.into(),
        address,
        incarnation: Incarnation(incarnation),
        workers: 2,
        weight: 100,
        roles: BTreeSet::new(),
        metadata: BTreeMap::new(),
        app_version: "1".into(),
        services: Vec::new(),
    }
}

/// A process: it keeps its place in `Net::nodes` after its end.
pub struct Node {
    pub membership: Membership,
    pub address: SocketAddr,
    pub faults: Vec<MemberFault>,
    /// That it is not let in, and why.
    pub told: Vec<MemberError>,
    pub events: Vec<(Time, MemberEvent)>,
    pub paused: bool,
    pub dead: bool,
    /// What arrived or came due while it was paused.
    backlog: Vec<Input>,
}

#[derive(Clone, Debug)]
enum Input {
    Datagram(SocketAddr, Vec<u8>),
    Timer(MemberTimer),
}

pub struct Net {
    pub now: Time,
    pub nodes: Vec<Node>,
    pub rng: Rng,
    pub loss: f64,
    pub duplication: f64,
    pub delay_us: (u64, u64),
    /// What gets lost on its way to these nodes, and how much later the rest is there.
    pub ill: BTreeMap<usize, (f64, (u64, u64))>,
    /// Datagrams of these kinds get lost.
    pub lost_kinds: BTreeSet<u8>,
    /// Pairs (from, to) between which nothing passes.
    pub blocked: BTreeSet<(SocketAddr, SocketAddr)>,
    /// Addresses that lead to a node which is at another one, as a forwarded port does: what that
    /// one answers comes from there.
    pub forwarded: BTreeMap<SocketAddr, usize>,
    /// Through which of them the node at the second address last called the first.
    through: BTreeMap<(usize, SocketAddr), SocketAddr>,
    pub sent: u64,
    pub sent_bytes: u64,
    /// Views that were shown, over all nodes.
    pub views: u64,
    /// If set, every payload sent is kept here.
    pub tapped: Option<Vec<Vec<u8>>>,
    /// Over everything that happened.
    pub trace: u64,
    queue: BTreeMap<(Time, u64), (usize, Input)>,
    sequence: u64,
}

impl Net {
    pub fn new(seed: u64) -> Self {
        Self {
            now: Time::ZERO,
            nodes: Vec::new(),
            rng: Rng::seed_from_u64(seed),
            loss: 0.0,
            duplication: 0.0,
            delay_us: (50, 400),
            ill: BTreeMap::new(),
            lost_kinds: BTreeSet::new(),
            blocked: BTreeSet::new(),
            forwarded: BTreeMap::new(),
            through: BTreeMap::new(),
            sent: 0,
            sent_bytes: 0,
            views: 0,
            tapped: None,
            trace: seed,
            queue: BTreeMap::new(),
            sequence: 0,
        }
    }

    pub fn add(&mut self, config: MemberConfig, local: LocalMember) -> usize {
        self.add_with(config, local, Box::new(Manual))
    }

    pub fn add_with(
        &mut self,
        config: MemberConfig,
        local: LocalMember,
        policy: Box<dyn PartitionPolicy>,
    ) -> usize {
        let address = local.address;
        self.place(config, local, policy, address)
    }

    /// A node that is at another address than it says.
    pub fn add_at(&mut self, config: MemberConfig, local: LocalMember, at: SocketAddr) -> usize {
        self.place(config, local, Box::new(Manual), at)
    }

    fn place(
        &mut self,
        config: MemberConfig,
        local: LocalMember,
        policy: Box<dyn PartitionPolicy>,
        address: SocketAddr,
    ) -> usize {
        let seed = self.rng.random();
        let membership = Membership::new(config, local, policy, seed).unwrap();
        let node = self.nodes.len();
        self.nodes.push(Node {
            membership,
            address,
            faults: Vec::new(),
            told: Vec::new(),
            events: Vec::new(),
            paused: false,
            dead: false,
            backlog: Vec::new(),
        });
        self.call(node, |membership, now, sink| membership.start(now, sink));
        node
    }

    /// `count` members that know the first three as seeds, up and equal.
    pub fn cluster(seed: u64, count: usize) -> Self {
        let mut net = Self::new(seed);
        let seeds: Vec<SocketAddr> = (0..count.min(3)).map(address).collect();
        for index in 0..count {
            let config = MemberConfig { seeds: seeds.clone(), ..MemberConfig::default() };
            net.add(config, local(&format!("n{index}"), address(index), 1_000 + index as u64));
        }
        let all: Vec<usize> = (0..count).collect();
        net.until(Duration::from_secs(20), |net| net.agreed(&all, count)).expect("a cluster forms");
        net
    }

    pub fn call<R>(
        &mut self,
        node: usize,
        call: impl FnOnce(&mut Membership, Time, &mut dyn MemberSink) -> R,
    ) -> R {
        let mut sink = Recorder::default();
        let result = call(&mut self.nodes[node].membership, self.now, &mut sink);
        for effect in sink.0 {
            self.apply(node, effect);
        }
        result
    }

    fn apply(&mut self, node: usize, effect: Effect) {
        let from = self.nodes[node].address;
        match effect {
            Effect::Send(to, payload) => {
                self.trace = xxh3_64_with_seed(&payload, self.trace ^ self.now.0);
                self.sent += 1;
                self.sent_bytes += payload.len() as u64;
                if let Some(tapped) = &mut self.tapped {
                    tapped.push(payload.clone());
                }
                let (shown, receiver) = self.lead(node, to);
                let copies = 1 + u32::from(self.rng.random_bool(self.duplication));
                for _ in 0..copies {
                    let mut delay = self.rng.random_range(self.delay_us.0..=self.delay_us.1);
                    let ill = receiver.and_then(|receiver| self.ill.get(&receiver)).copied();
                    let ill = ill.is_some_and(|(loss, (least, most))| {
                        delay += self.rng.random_range(least..=most);
                        self.rng.random_bool(loss)
                    });
                    let lost = ill
                        || self.rng.random_bool(self.loss)
                        || self.blocked.contains(&(from, to))
                        || self.lost_kinds.contains(&payload[0]);
                    if let (false, Some(receiver)) = (lost, receiver) {
                        let at = self.now.plus(Duration::from_micros(delay));
                        self.enqueue(at, receiver, Input::Datagram(shown, payload.clone()));
                    }
                }
            }
            Effect::Schedule(at, timer) => {
                assert!(at >= self.now && at == timer.due());
                self.enqueue(at, node, Input::Timer(timer));
            }
            Effect::View(view, events) => {
                self.trace = self.trace.wrapping_mul(31) ^ view.digest;
                assert!(!events.is_empty());
                self.views += 1;
                let now = self.now;
                self.nodes[node].events.extend(events.into_iter().map(|event| (now, event)));
            }
            Effect::Fault(fault) => self.nodes[node].faults.push(fault),
        }
    }

    /// Where a datagram seems to come from, and whom it gets to. Each machine knows itself as all of
    /// 127.0.0.0/8 too, and answers from the first of these.
    fn lead(&mut self, node: usize, to: SocketAddr) -> (SocketAddr, Option<usize>) {
        let from = self.nodes[node].address;
        if to.ip().is_loopback() {
            let here = (to.port() == from.port()).then_some(node);
            return (SocketAddr::from(([127, 0, 0, 1], from.port())), here);
        }
        if let Some(server) = self.forwarded.get(&to).copied() {
            self.through.insert((server, from), to);
            return (from, Some(server));
        }
        let receiver = self.nodes.iter().rposition(|node| node.address == to);
        if let Some(receiver) = receiver {
            self.through.remove(&(receiver, from));
        }
        (self.through.get(&(node, to)).copied().unwrap_or(from), receiver)
    }

    fn enqueue(&mut self, at: Time, node: usize, input: Input) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), (node, input));
    }

    /// Delivers the next input, if one is due by then.
    fn step(&mut self, until: Time) -> bool {
        let Some(next) = self.queue.first_entry().filter(|next| next.key().0 <= until) else {
            self.now = until;
            return false;
        };
        let ((at, _), (node, input)) = next.remove_entry();
        self.now = at;
        let target = &mut self.nodes[node];
        if target.paused {
            target.backlog.push(input);
        } else if !target.dead {
            self.deliver(node, input);
        }
        true
    }

    fn deliver(&mut self, node: usize, input: Input) {
        match input {
            Input::Datagram(from, payload) => {
                let taken = self.call(node, |membership, now, sink| {
                    membership.handle_datagram(now, from, &payload, sink)
                });
                match taken {
                    Err(told @ MemberError::NotReached { .. }) => {
                        self.nodes[node].told.push(told);
                    }
                    taken => taken.expect("members send what members read"),
                }
            }
            Input::Timer(timer) => {
                self.call(node, |membership, now, sink| membership.handle_timer(now, timer, sink));
            }
        }
    }

    pub fn run(&mut self, time: Duration) {
        let until = self.now.plus(time);
        while self.step(until) {}
    }

    /// Runs until the condition holds, and says how long that took; `None` after `limit`.
    pub fn until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Option<Duration> {
        let began = self.now;
        let end = began.plus(limit);
        while self.now < end {
            if done(self) {
                return Some(self.now.since(began));
            }
            let slice = self.now.plus(Duration::from_millis(5)).min(end);
            while self.step(slice) {}
        }
        done(self).then_some(limit)
    }

    pub fn pause(&mut self, node: usize) {
        self.nodes[node].paused = true;
    }

    /// Hands in what the kernel kept: overdue timers first, which is the worse order.
    pub fn resume(&mut self, node: usize) {
        self.nodes[node].paused = false;
        let mut backlog = std::mem::take(&mut self.nodes[node].backlog);
        backlog.sort_by_key(|input| Reverse(matches!(input, Input::Timer(_))));
        for input in backlog {
            self.deliver(node, input);
        }
    }

    pub fn kill(&mut self, node: usize) {
        self.nodes[node].dead = true;
    }

    /// Blocks everything from the addresses of one group to those of another, one way.
    pub fn block(&mut self, from: &[usize], to: &[usize]) {
        for from in from {
            for to in to {
                self.blocked.insert((address(*from), address(*to)));
            }
        }
    }

    pub fn cut(&mut self, left: &[usize], right: &[usize]) {
        self.block(left, right);
        self.block(right, left);
    }

    pub fn heal(&mut self) {
        self.blocked.clear();
    }

    pub fn view(&self, node: usize) -> &View {
        self.nodes[node].membership.view()
    }

    pub fn me(&self, node: usize) -> NodeRef {
        self.view(node).me
    }

    pub fn reachable(&self, on: usize, node: NodeId) -> bool {
        self.view(on).member(node).is_some_and(|member| member.reachable)
    }

    /// Whether all of these have one view of so many members, all up and reachable.
    pub fn agreed(&self, nodes: &[usize], count: usize) -> bool {
        let good = |view: &View| {
            view.members.len() == count
                && view
                    .members
                    .iter()
                    .all(|member| member.reachable && member.state == MemberState::Up)
        };
        self.equal(nodes) && good(self.view(nodes[0]))
    }

    pub fn equal(&self, nodes: &[usize]) -> bool {
        nodes.iter().all(|node| self.view(*node).digest == self.view(nodes[0]).digest)
    }
}
